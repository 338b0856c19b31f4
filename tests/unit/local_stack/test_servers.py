import os
from pathlib import Path

import pytest

from local_stack.addresses import apart, without_passwords
from local_stack.elasticsearch import Elasticsearch
from local_stack.java import Jdk, java_major
from local_stack.kafka import Kafka
from local_stack.maven import JavaServer
from local_stack.postgres import Postgres
from local_stack.redis import Redis
from local_stack.server import Server


@pytest.mark.parametrize(
    ("line", "major"),
    [
        ("javac 25.0.1", 25),
        ("javac 17.0.15", 17),
        ("javac 1.8.0_412", 8),
        ('JAVA_VERSION="21"', 21),
        ('JAVA_VERSION="25.0.1"', 25),
        ('JAVA_VERSION="1.8.0_412"', 8),
        ("no java", None),
        ("", None),
    ],
)
def test_the_major_version_of_a_jdk_is_read_from_its_compiler(line: str, major: int | None) -> None:
    assert java_major(line) == major


def kafka(node: int = 1, voters: tuple[tuple[int, int], ...] = ()) -> Kafka:
    return Kafka(JavaServer(Jdk(Path("/jdk"), 21), Path("/kafka")), Path("/d/kafka"), 9092, 9093, node, voters)


def test_a_single_broker_is_its_own_voter_and_replicates_nothing() -> None:
    properties = kafka().properties()
    assert properties["controller.quorum.voters"] == "1@127.0.0.1:9093"
    assert properties["offsets.topic.replication.factor"] == "1"
    assert properties["auto.create.topics.enable"] == "false"


def test_a_broker_of_three_knows_all_voters_and_replicates_its_own_topics() -> None:
    properties = kafka(2, ((1, 9093), (2, 9095), (3, 9097))).properties()
    assert properties["controller.quorum.voters"] == "1@127.0.0.1:9093,2@127.0.0.1:9095,3@127.0.0.1:9097"
    assert properties["offsets.topic.replication.factor"] == "3"
    assert properties["transaction.state.log.min.isr"] == "2"


def test_paths_are_written_to_the_properties_of_kafka_as_java_reads_them() -> None:
    odd = Kafka(JavaServer(Jdk(Path("/jdk"), 21), Path("/kafka")), Path("/home/jürgen/5%\\ '😀"), 9092, 9093)
    lines = odd.configuration().splitlines()
    assert r"log.dirs=/home/j\u00fcrgen/5%\\ '\ud83d\ude00/log" in lines
    assert "node.id=1" in lines


def test_older_jdks_are_not_given_the_flag_that_they_do_not_know() -> None:
    def flags(major: int) -> list[str]:
        installation = JavaServer(Jdk(Path("/jdk"), major), Path("/es"))
        return Elasticsearch(installation, Path("/d/es"), 9200, 9300).command()

    assert "--sun-misc-unsafe-memory-access=allow" not in flags(21)
    assert "--sun-misc-unsafe-memory-access=allow" in flags(25)


def test_java_servers_run_what_they_unpack_from_their_own_folder() -> None:
    node = Elasticsearch(JavaServer(Jdk(Path("/jdk"), 21), Path("/es")), Path("/d/es"), 9200, 9300)
    assert "-Djava.io.tmpdir=/d/es/tmp" in node.command()
    assert "-Djava.io.tmpdir=/d/kafka/tmp" in kafka().command()


def test_java_servers_get_the_options_in_jdk_java_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JDK_JAVA_OPTIONS", "-Xlog:gc")
    node = Elasticsearch(JavaServer(Jdk(Path("/jdk"), 21), Path("/es")), Path("/d/es"), 9200, 9300)
    servers: tuple[Server, ...] = (kafka(), node)
    for server in servers:
        assert server.environment()["JDK_JAVA_OPTIONS"] == "-Xlog:gc"
        assert os.geteuid() != 0 or "JDK_JAVA_OPTIONS=-Xlog:gc" in server.command()


def test_every_server_listens_on_loopback_only(tmp_path: Path) -> None:
    node = Elasticsearch(JavaServer(Jdk(Path("/jdk"), 21), Path("/es")), tmp_path, 9200, 9300)
    assert "network.host: 127.0.0.1" in node.configuration()
    assert all("//127.0.0.1:" in listener for listener in kafka().properties()["listeners"].split(","))
    postgres = Postgres(Path("/pg"), tmp_path, 5432, "secret")
    assert "--listen_addresses=127.0.0.1" in postgres.command()
    assert "bind 127.0.0.1" in Redis("redis-server", tmp_path, 6379, "secret").configuration().splitlines()


def test_no_password_is_among_the_arguments_of_a_server_or_in_what_it_reads(tmp_path: Path) -> None:
    postgres = Postgres(Path("/pg"), tmp_path, 5432, "pg-secret", "su-secret")
    redis = Redis("redis-server", tmp_path, 6379, "redis-secret")
    assert "secret" not in f"{postgres.command()} {redis.command()} {redis.configuration()} {postgres!r} {redis!r}"


def test_an_address_is_split_into_the_address_without_its_password_and_the_password() -> None:
    assert apart("postgresql://u:p%40ss@127.0.0.1:5432/d") == ("postgresql://u@127.0.0.1:5432/d", "p@ss")


def test_addresses_are_shown_unchanged_except_for_their_passwords() -> None:
    without = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1,127.0.0.1:2", "ELASTICSEARCH_URL": "none", "API_PORT": "8000"}
    assert without_passwords(without | {"REDIS_URL": "redis://u:p@h:1/0"}) == without | {"REDIS_URL": "redis://u@h:1/0"}


def test_each_server_knows_the_variable_that_holds_its_address(tmp_path: Path) -> None:
    servers: list[Server] = [
        kafka(),
        Postgres(Path("/pg"), tmp_path, 5432, "secret"),
        Redis("redis-server", tmp_path, 6379, "secret"),
    ]
    assert {name for server in servers for name in server.addresses()} == {
        "KAFKA_BOOTSTRAP_SERVERS",
        "DATABASE_URL",
        "REDIS_URL",
    }
