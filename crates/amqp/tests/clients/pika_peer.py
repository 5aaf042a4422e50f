"""The other side of amqp's tests, with pika, a client that shares no code with it.

pika_peer.py consume URL QUEUE COUNT   prints what it understood of so many messages, as JSON
pika_peer.py publish URL QUEUE BODY... publishes each with every property and a header of every type that pika has
"""

import base64
import datetime
import decimal
import json
import sys

import pika


def plain(value):
    """What JSON has no word for is a list of its type's name and a text."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, bytes):
        return ["bytes", base64.b64encode(value).decode()]
    if isinstance(value, (decimal.Decimal, datetime.datetime)):
        return [type(value).__name__, str(value)]
    return value


PROPERTIES = (
    "content_type content_encoding headers delivery_mode priority correlation_id reply_to "
    "expiration message_id timestamp type user_id app_id cluster_id"
).split()


def consume(channel, queue, count):
    messages = []
    for method, properties, body in channel.consume(queue, inactivity_timeout=60):
        if method is None:
            sys.exit(f"only {len(messages)} messages came from {queue}")
        channel.basic_ack(method.delivery_tag)
        messages.append(
            {
                "exchange": method.exchange,
                "routing_key": method.routing_key,
                "body": base64.b64encode(body).decode(),
                "properties": {name: plain(getattr(properties, name)) for name in PROPERTIES},
            }
        )
        if len(messages) == int(count):
            break
    json.dump(messages, sys.stdout)


def publish(channel, queue, *bodies):
    inner = {"deep": "down", "none": None}
    headers = {
        "array": [-1, inner, []],
        "boolean": True,
        "bytes": b"\x00\xff\xce",
        "decimal": decimal.Decimal("314.15"),
        "empty": {},
        "i32": -70000,
        "i64": 1 << 40,
        "table": inner,
        "text": "Grüße 🦀",
        "timestamp": datetime.datetime.fromtimestamp(1790000000, datetime.timezone.utc),
        "void": None,
    }
    properties = pika.BasicProperties(
        content_type="application/json",
        content_encoding="identity",
        headers=headers,
        delivery_mode=2,
        priority=9,
        correlation_id="correlation",
        reply_to="somewhere",
        expiration="60000",
        message_id="7/1/0/16B3748",
        timestamp=1790000000,
        type="insert",
        user_id="guest",
        app_id="amqp",
        cluster_id="reserved",
    )
    channel.confirm_delivery()
    for body in bodies:
        channel.basic_publish("", queue, body.encode(), properties, mandatory=True)


what, url, *arguments = sys.argv[1:]
connection = pika.BlockingConnection(pika.URLParameters(url))
{"consume": consume, "publish": publish}[what](connection.channel(), *arguments)
connection.close()
