import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.DefaultConsumer;
import com.rabbitmq.client.Envelope;
import com.rabbitmq.client.ShutdownSignalException;
import java.nio.charset.StandardCharsets;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.sql.Statement;

/**
 * Counts the changes of each row, and counts every event once, however often it is delivered.
 *
 * <p>Needs RabbitMQ's client and PostgreSQL's driver (Debian: librabbitmq-client-java, libpostgresql-jdbc-java). Runs
 * until it is stopped or something fails: let a supervisor start it again.
 *
 * <pre>java -cp '/usr/share/java/amqp-client.jar:/usr/share/java/slf4j-api.jar:/usr/share/java/postgresql.jar' \
 *     Consumer.java amqp://guest:guest@localhost/%2F article-queue 'postgresql://localhost/copy?user=me'</pre>
 */
class Consumer extends DefaultConsumer {
    static final String TABLES = """
        CREATE TABLE IF NOT EXISTS applied (message_id text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());
        CREATE TABLE IF NOT EXISTS changes (id bigint PRIMARY KEY, count bigint NOT NULL)""";

    private final java.sql.Connection database;
    private final PreparedStatement remember;
    private final PreparedStatement apply;

    Consumer(Channel channel, java.sql.Connection database) throws SQLException {
        super(channel);
        this.database = database;
        remember = database.prepareStatement("INSERT INTO applied VALUES (?) ON CONFLICT DO NOTHING");
        // What this consumer is there for. A second time it would do harm. PostgreSQL takes the JSON apart.
        apply = database.prepareStatement("""
            INSERT INTO changes
            SELECT (coalesce(nullif(event -> 'current', 'null'), event -> 'previous') ->> 'id')::bigint, 1
              FROM (SELECT ?::jsonb AS event) AS events
            ON CONFLICT (id) DO UPDATE SET count = changes.count + 1""");
    }

    /** The client calls this for one message of a channel after the other. */
    @Override
    public void handleDelivery(String tag, Envelope envelope, BasicProperties properties, byte[] body) {
        try {
            // One transaction: that the event is known and what it does are there together, or neither is.
            remember.setString(1, properties.getMessageId());
            if (remember.executeUpdate() == 1) {
                apply.setString(1, new String(body, StandardCharsets.UTF_8));
                apply.executeUpdate();
            }
            database.commit();
            // After the commit: what is acknowledged before it would be lost in a crash.
            getChannel().basicAck(envelope.getDeliveryTag(), false);
        } catch (Exception error) {
            stop(error);
        }
    }

    @Override
    public void handleCancel(String tag) {
        stop(new IllegalStateException("the queue is gone"));
    }

    @Override
    public void handleShutdownSignal(String tag, ShutdownSignalException signal) {
        stop(signal);
    }

    private static void stop(Exception error) {
        error.printStackTrace();
        // Not System.exit: it waits for what the client has not finished.
        Runtime.getRuntime().halt(1);
    }

    public static void main(String[] arguments) throws Exception {
        java.sql.Connection database = DriverManager.getConnection("jdbc:" + arguments[2]);
        database.setAutoCommit(false);
        try (Statement statement = database.createStatement()) {
            statement.execute(TABLES);
        }
        database.commit();
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(arguments[0]);
        // A new connection would go on with what this one had taken and not acknowledged; a new process does, too.
        factory.setAutomaticRecoveryEnabled(false);
        Connection connection = factory.newConnection();
        Channel channel = connection.createChannel();
        channel.basicQos(100);
        channel.basicConsume(arguments[1], false, new Consumer(channel, database));
    }
}
