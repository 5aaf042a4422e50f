//! What the demo does: statements, and the routing keys of the messages they have to make.

/// Some statements that show one thing.
pub struct Step {
    /// What it shows.
    pub title: &'static str,
    /// Run one by one, in one session.
    pub statements: &'static [&'static str],
    /// Routing keys, in order. A step without messages is proved by the next one: what had been
    /// published nevertheless would come first. Hence the two must differ in their keys.
    pub messages: &'static [&'static str],
}

/// Makes the blog.
pub const SCHEMA: &[&str] = &[
    "CREATE EXTENSION amqp_cdc;",
    "\
CREATE TABLE blog_articles (
  id           int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  title        text NOT NULL,
  body         text,
  tags         text[],
  published_at timestamptz
);",
    "\
CREATE TABLE blog_comments (
  id           int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  article_id   int NOT NULL REFERENCES blog_articles ON DELETE CASCADE,
  author       text,
  body         text
);",
    "\
CREATE TRIGGER article_change_data_capture_trig
  AFTER INSERT OR DELETE OR UPDATE ON blog_articles
  FOR EACH ROW EXECUTE PROCEDURE AMQP_CHANGE_DATA_CAPTURE('article');",
    "\
CREATE TRIGGER comment_change_data_capture_trig
  AFTER INSERT OR DELETE OR UPDATE ON blog_comments
  FOR EACH ROW EXECUTE PROCEDURE AMQP_CHANGE_DATA_CAPTURE('comment');",
];

/// What is done while both servers run.
pub const STEPS: &[Step] = &[
    Step {
        title: "An insert is one message: previous is null, current is the new row",
        statements: &["\
INSERT INTO blog_articles (title, body, tags, published_at)
VALUES ('Hello, rabbit', 'It begins.', '{news,amqp}', '2026-05-01 09:00+02');"],
        messages: &["cdc.article.insert"],
    },
    Step {
        title: "An update carries both rows; targets names the columns that changed",
        statements: &["\
UPDATE blog_articles
   SET title = 'Hello, RabbitMQ', tags = array_append(tags, 'rust')
 WHERE id = 1;"],
        messages: &["cdc.article.update"],
    },
    Step {
        title: "The messages of a transaction come at its commit, counted: tx 1 of 3",
        statements: &[
            "BEGIN;",
            "INSERT INTO blog_articles (title) VALUES ('A draft');",
            "\
INSERT INTO blog_comments (article_id, author, body)
VALUES (1, 'Ada', 'Well said!'), (1, 'Grace', 'Ship it.');",
            "COMMIT;",
        ],
        messages: &["cdc.article.insert", "cdc.comment.insert", "cdc.comment.insert"],
    },
    Step {
        title: "A transaction that is rolled back publishes nothing",
        statements: &[
            "BEGIN;",
            "UPDATE blog_articles SET title = 'Oops';",
            "DELETE FROM blog_comments;",
            "ROLLBACK;",
        ],
        messages: &[],
    },
    Step {
        title: "Neither does what was rolled back to a savepoint; the rest of it does",
        statements: &[
            "BEGIN;",
            "INSERT INTO blog_articles (title) VALUES ('On savepoints');",
            "SAVEPOINT before_the_mistake;",
            "UPDATE blog_articles SET body = 'A mistake.';",
            "ROLLBACK TO before_the_mistake;",
            "INSERT INTO blog_comments (article_id, author) VALUES (2, 'Edsger');",
            "COMMIT;",
        ],
        messages: &["cdc.article.insert", "cdc.comment.insert"],
    },
    Step {
        title: "A delete carries the old row, and so do the rows that it takes along",
        statements: &["DELETE FROM blog_articles WHERE id = 1;"],
        messages: &["cdc.article.delete", "cdc.comment.delete", "cdc.comment.delete"],
    },
    Step {
        title: "A message of your own, amqp.publish, comes with its transaction, at its place in it",
        statements: &[
            "\
CREATE TABLE orders (
  id           int PRIMARY KEY,
  customer     text,
  total        numeric
);",
            "\
CREATE TRIGGER order_change_data_capture_trig
  AFTER INSERT OR DELETE OR UPDATE ON orders
  FOR EACH ROW EXECUTE PROCEDURE AMQP_CHANGE_DATA_CAPTURE('order');",
            "BEGIN;",
            "INSERT INTO orders VALUES (1, 'Ada', 100);",
            "\
SELECT amqp.publish('shop.placed', jsonb_build_object('order', 1, 'total', 100),
                    type => 'OrderPlaced');",
            "UPDATE orders SET total = 90 WHERE id = 1;",
            "COMMIT;",
        ],
        messages: &["cdc.order.insert", "shop.placed", "cdc.order.update"],
    },
    Step {
        title: "Rolled back, it is not sent",
        statements: &[
            "BEGIN;",
            "INSERT INTO orders VALUES (2, 'Grace', 50);",
            "SELECT amqp.publish('shop.placed', jsonb_build_object('order', 2, 'total', 50));",
            "ROLLBACK;",
        ],
        messages: &[],
    },
    Step {
        title: "amqp.autonomous_publish sends at once, and that stays, whatever becomes of the transaction",
        statements: &[
            "BEGIN;",
            "INSERT INTO orders VALUES (3, 'Mallory', 1000000);",
            "SELECT amqp.autonomous_publish('shop.refused', 'Mallory, 1000000: too much');",
            "ROLLBACK;",
        ],
        messages: &["shop.refused"],
    },
];

/// What is done while the broker is down.
pub const OUTAGE: Step = Step {
    title: "While the broker is down, writers go on; the messages come when it is back",
    statements: &[
        "UPDATE blog_articles SET body = 'Written during the outage.' WHERE id = 2;",
        "INSERT INTO blog_comments (article_id, author) VALUES (2, 'Barbara');",
    ],
    messages: &["cdc.article.update", "cdc.comment.insert"],
};

/// What tells about an outage.
pub const STATUS: &str = "SELECT state, reason, lag_bytes FROM amqp.status;";

/// What the reader may try.
pub const HINTS: &[&str] = &[
    "INSERT INTO blog_articles (title) VALUES ('Mine');",
    "UPDATE blog_articles SET tags = '{mine}' WHERE title = 'Mine';",
    "BEGIN; DELETE FROM blog_articles; ROLLBACK;   -- nothing comes",
    "SELECT amqp.publish('mine', 'a message of my own');",
    "TABLE amqp.status \\gx",
];
