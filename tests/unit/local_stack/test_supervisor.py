import configparser
import shlex
from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from local_stack.errors import StackError
from local_stack.java import Jdk
from local_stack.kafka import Kafka
from local_stack.maven import JavaServer
from local_stack.programs import ROLES, Instance, Tier, port_defaults, role_instances
from local_stack.redis import Redis
from local_stack.state_folder import StackRecord, StateFolder
from local_stack.supervisor import render

PORTS = port_defaults() | {"API_PORT": 8000, "MOCK_PORT": 5000}


def parse(text: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"))
    parser.read_string(text)
    return parser


def section_of(role_name: str, home: Path) -> configparser.SectionProxy:
    role = next(role for role in ROLES if role.name == role_name)
    text = render(StateFolder.at(home), [], [Instance(role, 0, 8101)], Path("/work here/50%"))
    return parse(text)[f"program:{role_name}"]


def test_every_program_is_restarted_logged_and_killed_with_its_children(tmp_path: Path) -> None:
    section = section_of("normalizer", tmp_path)
    assert section["autorestart"] == "true"
    assert section["stopsignal"] == "TERM"
    assert section["killasgroup"] == "true"
    assert section["stdout_logfile"] == str(tmp_path.resolve() / "logs" / "normalizer.log")
    assert 'HEALTH_PORT="8101"' in section["environment"]
    assert 'HEADRACE_PROGRAM="normalizer"' in section["environment"]


def test_a_server_that_dies_is_started_again_for_over_an_hour(tmp_path: Path) -> None:
    server = Redis("redis-server", tmp_path, 6379, "a password")
    section = parse(render(StateFolder.at(tmp_path), [server], [], tmp_path))["program:redis"]
    retries = int(section["startretries"])
    assert sum(range(retries)) > 3600


def test_percent_signs_in_paths_are_not_taken_for_expansions(tmp_path: Path) -> None:
    assert section_of("api", tmp_path)["directory"] == "/work here/50%%"


def test_supervisord_reads_the_paths_and_words_that_were_written(tmp_path: Path) -> None:
    state = StateFolder.at(tmp_path / "it's 50% %d ü, $HOME")
    state.make()
    folder = state.home / "servers"
    kafka = Kafka(JavaServer(Jdk(folder, 21), folder), folder, 1, 2)
    state.supervisor_config.write_text(render(state, [kafka], [], folder), encoding="utf-8")
    options = ServerOptions()
    options.realize(["-c", str(state.supervisor_config)])
    [group] = options.process_group_configs
    [read] = group.process_configs
    assert options.logfile == str(state.supervisor_log)
    assert read.stdout_logfile == str(state.log("kafka"))
    assert shlex.split(read.command) == kafka.command()
    assert read.environment == kafka.environment() | {"HEADRACE_PROGRAM": "kafka"}


def test_a_path_that_supervisord_conf_cannot_express_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="can't be written"):
        render(StateFolder.at(tmp_path / "a ;b"), [], [], tmp_path)


def test_workers_start_before_what_feeds_them_and_stop_after_it() -> None:
    tiers = [instance.role.tier for instance in role_instances(StackRecord(PORTS))]
    assert tiers == sorted(tiers)
    assert Tier.SERVERS < Tier.WORKERS < Tier.FRONT


@pytest.mark.parametrize("server", ["elasticsearch", "redis"])
def test_without_a_server_its_sink_is_left_out_and_no_other(server: str) -> None:
    names = {one.name for one in role_instances(StackRecord(PORTS))}
    left = {one.name for one in role_instances(StackRecord(PORTS, without={server: "there is none"}))}
    assert names - left == {f"sink-{server}"}


def test_instances_of_one_role_have_names_ports_and_worker_ids_of_their_own() -> None:
    counts = {"normalizer": 3, "sink-postgres": 3}
    record = StackRecord(PORTS | port_defaults(counts), counts=counts)
    found = [instance for instance in role_instances(record) if instance.role.name in counts]
    assert [instance.name for instance in found[:3]] == ["normalizer", "normalizer-1", "normalizer-2"]
    assert len({instance.port for instance in found}) == 6
    assert {instance.environment()["WORKER_ID"] for instance in found[:3]} == {"0", "1", "2"}
