"""Takes one message from a queue with pika, a client that this project did not write, and prints
what it understood of it as JSON. Usage: receive_one.py URL QUEUE"""

import json
import sys

import pika

url, queue = sys.argv[1:3]
channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
method, properties, body = next(channel.consume(queue, inactivity_timeout=30))
if method is None:
    sys.exit(f"no message came from {queue}")
channel.basic_ack(method.delivery_tag)
json.dump(
    {
        "routing_key": method.routing_key,
        "exchange": method.exchange,
        "properties": {
            name: getattr(properties, name)
            for name in ("content_type", "delivery_mode", "message_id", "timestamp", "type", "app_id")
        },
        "headers": properties.headers,
        "body": json.loads(body),
    },
    sys.stdout,
)
