"""Counts the changes of each row, and counts every event once, however often it is delivered.

Needs pika and psycopg2 (Debian: python3-pika, python3-psycopg2). Runs until it is stopped or something fails: let a
supervisor start it again.

    python3 consumer.py amqp://guest:guest@localhost/ article-queue 'postgresql://localhost/copy?user=me'
"""

import json
import sys

import pika
import psycopg2

TABLES = """
    CREATE TABLE IF NOT EXISTS applied (message_id text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE IF NOT EXISTS changes (id bigint PRIMARY KEY, count bigint NOT NULL)"""


def apply(cursor, event):
    """What this consumer is there for. A second time it would do harm."""
    row = event["current"] or event["previous"]
    cursor.execute(
        "INSERT INTO changes VALUES (%s, 1) ON CONFLICT (id) DO UPDATE SET count = changes.count + 1",
        (row["id"],),
    )


def main(amqp_url, queue, database_url):
    database = psycopg2.connect(database_url)
    with database, database.cursor() as cursor:
        cursor.execute(TABLES)
    channel = pika.BlockingConnection(pika.URLParameters(amqp_url)).channel()
    channel.basic_qos(prefetch_count=100)
    for method, properties, body in channel.consume(queue):
        # One transaction: that the event is known and what it does are there together, or neither is.
        with database, database.cursor() as cursor:
            cursor.execute(
                "INSERT INTO applied VALUES (%s) ON CONFLICT DO NOTHING", (properties.message_id,)
            )
            if cursor.rowcount == 1:
                apply(cursor, json.loads(body))
        # After the commit: what is acknowledged before it would be lost in a crash.
        channel.basic_ack(method.delivery_tag)


if __name__ == "__main__":
    main(*sys.argv[1:])
