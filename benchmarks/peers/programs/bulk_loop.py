"""Bytes from a topic into Elasticsearch as they are, in bulk requests: what stands in for a sink connector.

No Elasticsearch sink for Kafka Connect is to be had from Maven Central, and nothing is faster than this.
"""

import http.client
import os
from urllib.parse import urlsplit

from confluent_kafka import Consumer

from benchmarks.peers.programs.rules import CLEAN, GROUP, SERVERS


def main() -> None:
    options = {"group.id": f"{GROUP}-bulk", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = Consumer({"bootstrap.servers": SERVERS, **options})
    consumer.subscribe([CLEAN])
    url = urlsplit(os.environ["ELASTICSEARCH_URL"])
    connection = http.client.HTTPConnection(url.hostname or "", url.port)
    while True:
        if messages := consumer.consume(2000, 0.1):
            lines = [b'{"index":{"_id":"%b"}}\n%b\n' % (message.key(), message.value()) for message in messages]
            path = f"/{os.environ['PEER_INDEX']}/_bulk?filter_path=errors"
            connection.request("POST", path, b"".join(lines), {"content-type": "application/x-ndjson"})
            said = connection.getresponse().read()
            if said != b'{"errors":false}':
                raise SystemExit(said[:500])
            consumer.commit(asynchronous=True)


if __name__ == "__main__":
    main()
