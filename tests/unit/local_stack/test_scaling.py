from pathlib import Path

import pytest

from local_stack.addresses import DEFAULT_PORTS, add_ports, addresses_of, cluster_ports, defaults_of
from local_stack.errors import StackError
from local_stack.installations import Installations
from local_stack.java import Jdk
from local_stack.kafka import build_nodes
from local_stack.layout import UpOptions, brokers_of, ports_in_use, record_at_start
from local_stack.maven import JavaServer
from local_stack.processes import server_processes
from local_stack.programs import port_defaults, role_instances
from local_stack.scaling import read_counts
from local_stack.state_folder import StackRecord, StateFolder

PORTS = DEFAULT_PORTS | cluster_ports(3) | port_defaults()


def test_a_sink_can_be_scaled_by_its_short_name_or_its_name_in_status() -> None:
    counts = read_counts(["normalizer=3", "postgres=2", "sink-redis=1"])
    assert counts == {"normalizer": 3, "sink-postgres": 2, "sink-redis": 1}


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("api=2", "'api' can't be scaled"),
        ("watchdog=2", "'watchdog' can't be scaled"),
        ("relay=2", "'relay' can't be scaled"),
        ("kafka=3", "'kafka' can't be scaled"),
        ("normalizer=0", "'normalizer=0' is not a number of instances"),
        ("normalizer=-1", "'normalizer=-1' is not a number"),
        ("normalizer=two", "'normalizer=two' is not a number"),
        ("normalizer", "'normalizer' is not a number"),
    ],
)
def test_a_role_or_a_number_that_cannot_be_scaled_to_is_refused_by_name(word: str, told: str) -> None:
    with pytest.raises(StackError, match=told):
        read_counts([word])


def test_a_role_that_is_named_twice_with_different_numbers_is_refused() -> None:
    with pytest.raises(StackError, match="sink-postgres is named twice, as 2 and 3"):
        read_counts(["postgres=2", "sink-postgres=3"])


def test_a_role_that_was_scaled_has_instances_with_ports_of_their_own() -> None:
    counts = {"normalizer": 3}
    record = StackRecord(PORTS | port_defaults(counts), counts=counts)
    found = {one.name: one.port for one in role_instances(record)}
    assert {"normalizer", "normalizer-1", "normalizer-2"} <= found.keys()
    assert "sink-postgres-1" not in found
    assert len(set(found.values())) == len(found)


def test_a_running_stack_keeps_its_ports_and_gets_further_ones_that_are_free() -> None:
    known = {"KAFKA_PORT": 20_500}
    defaults = {"KAFKA_PORT": 9092, "A_HEALTH_PORT": 8101, "B_HEALTH_PORT": 8111, "C_HEALTH_PORT": 20_500}
    ports = add_ports(known, defaults, available=lambda port: port != 8111)
    assert ports["KAFKA_PORT"] == 20_500
    assert ports["A_HEALTH_PORT"] == 8101
    assert ports["B_HEALTH_PORT"] != 8111
    assert len(set(ports.values())) == 4


def test_a_cluster_has_the_addresses_of_all_its_nodes_and_three_copies_of_each_topic() -> None:
    record = StackRecord(PORTS, brokers=3)
    assert addresses_of(record)["KAFKA_BOOTSTRAP_SERVERS"] == "127.0.0.1:9092,127.0.0.1:9094,127.0.0.1:9096"
    assert defaults_of(record)["TOPIC_REPLICATION"] == "3"
    assert "TOPIC_REPLICATION" not in defaults_of(StackRecord(PORTS))
    assert [one.name for one in server_processes(record)][:3] == ["kafka", "kafka-2", "kafka-3"]
    assert {"KAFKA_2_CONTROLLER_PORT", "KAFKA_3_CONTROLLER_PORT"} <= ports_in_use(record).keys()


def test_the_nodes_of_a_cluster_know_each_other_and_share_no_folder(tmp_path: Path) -> None:
    nodes = build_nodes(JavaServer(Jdk(Path("/jdk"), 21), Path("/kafka")), tmp_path, PORTS, 3)
    assert {node.properties()["controller.quorum.voters"] for node in nodes} == {
        "1@127.0.0.1:9093,2@127.0.0.1:9095,3@127.0.0.1:9097"
    }
    assert len({node.data for node in nodes}) == 3
    assert all(node.properties()["min.insync.replicas"] == "2" for node in nodes)
    assert len({node.addresses()["KAFKA_BOOTSTRAP_SERVERS"] for node in nodes}) == 1


def test_the_number_of_brokers_is_fixed_once_there_is_data() -> None:
    assert brokers_of(StackRecord(), 3) == 3
    assert brokers_of(StackRecord(PORTS, brokers=3), None) == 3
    assert brokers_of(StackRecord(PORTS, brokers=3), 3) == 3
    with pytest.raises(StackError, match="laid out for 1 broker, not for 3") as caught:
        brokers_of(StackRecord(PORTS), 3)
    assert "headrace clean" in caught.value.remedy


@pytest.mark.parametrize("count", [0, 2, 4, -1])
def test_a_number_of_brokers_other_than_1_3_or_5_is_refused(count: int) -> None:
    with pytest.raises(StackError, match=f"A cluster of {count} brokers is not offered"):
        brokers_of(StackRecord(), count)


def test_the_next_start_keeps_counts_and_brokers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    known = StackRecord(PORTS, ingested=True, brokers=3, counts={"normalizer": 2})
    record = record_at_start(known, Installations(), UpOptions())
    assert (record.brokers, record.counts, record.ingested) == (3, {"normalizer": 2}, True)
    assert "NORMALIZER_1_HEALTH_PORT" in record.ports
    assert record.folder == str(tmp_path)


def test_restarts_of_the_watchdog_are_kept_until_a_line_was_cut_short(tmp_path: Path) -> None:
    state = StateFolder.at(tmp_path / "home")
    state.make()
    assert state.watchdog_restarts() == []
    for name in ("normalizer", "normalizer-1", "normalizer"):
        state.remember_watchdog_restart(name, "normalizer", "why")
    with state.watchdog_log.open("a") as file:
        file.write('{"at": "2026-11-29T')  # the disk was full
    found = [(one["name"], one["group"], one["reason"]) for one in state.watchdog_restarts()]
    assert found == [(name, "normalizer", "why") for name in ("normalizer", "normalizer-1", "normalizer")]


def test_other_commands_see_that_the_stack_is_being_changed(tmp_path: Path) -> None:
    state = StateFolder.at(tmp_path / "home")
    state.make()
    assert not state.is_being_changed()
    with state.only_one("scale"):
        assert state.is_being_changed()
    assert not state.is_being_changed()
