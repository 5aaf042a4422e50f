// Counts the changes of each row, and counts every event once, however often it is delivered.
//
// Needs amqplib and pg (`npm ci`). Runs until it is stopped or something fails: let a supervisor start it again.
//
//     node consumer.js amqp://guest:guest@localhost/ article-queue 'postgresql://localhost/copy?user=me'

const amqp = require('amqplib')
const { Client } = require('pg')

const TABLES = `
    CREATE TABLE IF NOT EXISTS applied (message_id text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE IF NOT EXISTS changes (id bigint PRIMARY KEY, count bigint NOT NULL)`

// What this consumer is there for. A second time it would do harm.
async function apply(database, event) {
    const row = event.current ?? event.previous
    await database.query(
        'INSERT INTO changes VALUES ($1, 1) ON CONFLICT (id) DO UPDATE SET count = changes.count + 1',
        [row.id],
    )
}

async function applyOnce(database, message) {
    // One transaction: that the event is known and what it does are there together, or neither is.
    await database.query('BEGIN')
    const isNew = await database.query(
        'INSERT INTO applied VALUES ($1) ON CONFLICT DO NOTHING',
        [message.properties.messageId],
    )
    if (isNew.rowCount === 1) {
        await apply(database, JSON.parse(message.content.toString()))
    }
    await database.query('COMMIT')
}

async function main(amqpUrl, queue, databaseUrl) {
    const database = new Client(databaseUrl)
    await database.connect()
    await database.query(TABLES)
    const connection = await amqp.connect(amqpUrl)
    const channel = await connection.createChannel()
    for (const one of [database, connection, channel]) {
        one.on('error', stop)
    }
    connection.on('close', () => stop(new Error('the connection to the broker ended')))
    await channel.prefetch(100)
    // amqplib does not wait for one message to be handled before it hands over the next one: a chain keeps the order.
    let last = Promise.resolve()
    await channel.consume(queue, (message) => {
        if (message === null) {
            stop(new Error(`queue ${queue} is gone`))
        }
        last = last
            .then(() => applyOnce(database, message))
            // After the commit: what is acknowledged before it would be lost in a crash.
            .then(() => channel.ack(message))
            .catch(stop)
    })
}

function stop(error) {
    console.error(error)
    process.exit(1)
}

main(...process.argv.slice(2)).catch(stop)
