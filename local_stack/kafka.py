"""One Kafka broker in KRaft mode, broker and controller in one JVM.

A cluster is several of these with the same cluster id and voters; a single node is its own only voter.
"""

import json
import logging
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from local_stack.addresses import bootstrap_servers, node_name, node_ports
from local_stack.errors import StackError
from local_stack.java import find_jdk, java_variables
from local_stack.log_reading import LOG_TAIL_LINES
from local_stack.maven import ARTIFACTS, JavaServer, resolve
from local_stack.server import listens
from local_stack.unprivileged import own, show, unprivileged

CLUSTER_ID = "aGVhZHJhY2UtbG9jYWwtMQ"
"""Any 16 bytes in URL-safe base64; the same for every node of the local cluster."""

JAVA = 17
"""Kafka 4.x brokers are compiled for Java 17."""

HEAP_MB = 512

RECIPE = ARTIFACTS / "kafka"

MAX_MESSAGE_BYTES = 10 * 1024 * 1024

_silent = logging.getLogger("local_stack.kafka.client")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


def find_kafka() -> JavaServer:
    """Find a JDK and resolve the broker's jars (blocking: a minute the first time).

    Raises StackError when either is missing.
    """
    jdk = find_jdk(JAVA)
    if jdk is None:
        raise StackError(
            f"No JDK {JAVA} or newer: looked at JAVA_HOME, PATH and the usual folders. Kafka runs on it.",
            remedy="Install JDK 21 or newer, which Elasticsearch needs too "
            "(Debian/Ubuntu: apt install openjdk-21-jdk-headless; macOS: brew install openjdk@21), or set JAVA_HOME.",
        )
    return resolve(RECIPE, jdk, lambda folder: shutil.copy(RECIPE / "log4j2.properties", folder))


@dataclass(frozen=True)
class Kafka:
    """A broker; implements Server."""

    installation: JavaServer
    data: Path
    port: int
    controller_port: int
    node_id: int = 1
    voters: tuple[tuple[int, int], ...] = ()
    """(node id, controller port) of every node; empty for a single node."""
    broker_ports: tuple[int, ...] = ()
    """The ports of every node, by which clients find the cluster; empty for a single node."""

    stop_signal = "TERM"

    @property
    def name(self) -> str:
        return node_name(self.node_id)

    def prepare(self) -> None:
        """Write the configuration and format the log folder, once. Implements Server.prepare."""
        self.data.mkdir(exist_ok=True)
        show(self.data)
        self._properties_file.write_text(self.configuration())
        show(self._properties_file)
        own(self._log_folder)
        own(self._libraries)
        if (self._log_folder / "meta.properties").exists():
            return
        # A format cut short leaves a folder that a broker refuses; without meta.properties it holds no records.
        shutil.rmtree(self._log_folder, ignore_errors=True)
        own(self._log_folder)
        tool = ["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(self._properties_file)]
        done = subprocess.run(
            unprivileged([*self._java("-XX:TieredStopAtLevel=1"), *tool], self.environment()),
            env=os.environ | self.environment(),
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise StackError(
                f"Kafka could not format its data folder {self._log_folder}.",
                log_lines=(done.stdout + done.stderr).splitlines()[-LOG_TAIL_LINES:],
                remedy="Check that the folder is writable; `headrace clean` starts with an empty one.",
            )

    def configuration(self) -> str:
        """The content of server.properties, which Java reads as Latin-1 with such escapes as JSON's."""
        return "".join(f"{key}={json.dumps(value)[1:-1]}\n" for key, value in self.properties().items())

    def properties(self) -> dict[str, str]:
        """The broker's configuration."""
        voters = self.voters or ((self.node_id, self.controller_port),)
        replication = str(min(3, len(voters)))
        return {
            "process.roles": "broker,controller",
            "node.id": str(self.node_id),
            "controller.quorum.voters": ",".join(f"{node}@127.0.0.1:{port}" for node, port in voters),
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(self._log_folder),
            # Topics are declared (schemas/topics.py); a misspelt name must fail instead of making one.
            "auto.create.topics.enable": "false",
            "message.max.bytes": str(MAX_MESSAGE_BYTES),
            "replica.fetch.max.bytes": str(MAX_MESSAGE_BYTES),
            # Internal topics come with 50 partitions each, which costs a single node seconds at every start.
            "offsets.topic.num.partitions": "4",
            "offsets.topic.replication.factor": replication,
            # Of three copies two must have a record before it counts as written: either of them may then be lost.
            "min.insync.replicas": "2" if len(voters) >= 3 else "1",
            "transaction.state.log.num.partitions": "4",
            "transaction.state.log.replication.factor": replication,
            "transaction.state.log.min.isr": "2" if len(voters) >= 3 else "1",
            "share.coordinator.state.topic.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": replication,
            "share.coordinator.state.topic.min.isr": "1",
            # After a kill -9 the controller refuses the broker's new self until the old one's session has ended.
            "broker.session.timeout.ms": "4000",
            "broker.heartbeat.interval.ms": "1000",
            # Else the controller writes an empty record twice a second: a quarter of what an idle broker costs.
            "metadata.max.idle.interval.ms": "0",
            # The delay gathers members of a large group before the first rebalance; here it only makes starts slower.
            "group.initial.rebalance.delay.ms": "0",
        }

    def command(self) -> list[str]:
        return unprivileged([*self._java(), "kafka.Kafka", str(self._properties_file)], self.environment())

    def environment(self) -> dict[str, str]:
        return java_variables()

    def addresses(self) -> dict[str, str]:
        return {"KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers(self.broker_ports or (self.port,))}

    def problem(self) -> str | None:
        return problem(self.port, self.node_id)

    @property
    def _properties_file(self) -> Path:
        return self.data / "server.properties"

    @property
    def _log_folder(self) -> Path:
        return self.data / "log"

    @property
    def _libraries(self) -> Path:
        """For what Java unpacks to read zstd and snappy: many a machine lets nothing be run from /tmp."""
        return self.data / "tmp"

    def _java(self, *options: str) -> list[str]:
        folder = self.installation.folder
        return [
            self.installation.jdk.path("java"),
            f"-Xmx{HEAP_MB}m",
            "-Xms128m",
            # Compiled once and collected by one thread: on a machine that it shares with all else, a third less work
            # in the first minute, and none more later. Decision 0064 has the figures.
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}",
            f"-Djava.io.tmpdir={self._libraries}",
            *options,
            "-cp",
            f"{folder / 'lib'}/*",
        ]


def build_nodes(installation: JavaServer, data: Path, ports: Mapping[str, int], brokers: int = 1) -> list[Kafka]:
    """The nodes of a cluster, each with a folder of its own under `data`. The ports are those of `node_ports`."""
    nodes = range(1, brokers + 1)
    named = {node: node_ports(node) for node in nodes}
    voters = tuple((node, ports[controller]) for node, (_, controller) in named.items())
    broker_ports = tuple(ports[broker] for broker, _ in named.values())
    return [
        Kafka(installation, data / node_name(node), ports[broker], ports[controller], node, voters, broker_ports)
        for node, (broker, controller) in named.items()
    ]


def problem(port: int, node_id: int = 1) -> str | None:
    """Ask the broker on this port for the cluster's metadata; see Server.problem."""
    if not listens(port):
        return f"nothing listens on port {port}"
    client = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}", "log_level": 0}, logger=_silent)
    try:
        brokers = client.list_topics(timeout=2.5).brokers
    except KafkaException as error:
        return f"does not answer a metadata request: {error.args[0].str()}"
    return None if node_id in brokers else f"node {node_id} is not in the cluster yet"
