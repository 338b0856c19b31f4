"""A sink is one file and one line: all else follows from the registry, and nothing is there without it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from local_stack.programs import ROLES
from monitoring.lag import group_topics
from rehearsals.file import STAGES
from runtime.settings import load_settings
from schemas.registry import all_datasets, ingested_datasets
from schemas.sinks import SINKS, load
from schemas.topics import all_topics, topics_read_by

PROJECT = Path(__file__).parents[3]

ONE_FILE = """
class AuditLogSink:
    name = "audit-log"
    def __init__(self, settings):
        self.paused = {}

class Entries:
    name, group, complete = "audit-log", "sink-audit-log", True
"""

ONE_LINE = """
from schemas import sinks
sinks.SINKS.append(sinks.DeclaredSink(
    "audit-log", "Keep a log of all changes.", reads=("changed",), code="audit_log:AuditLogSink",
    refusing="audit_log:AuditLogSink", needs="redis", without="nobody keeps a log", versions="audit_log:Entries",
))
"""

EVERYWHERE = """
import json, sys
from typer.testing import CliRunner
import commands.rehearse, commands.scale, commands.sink
from local_stack.programs import port_defaults, role_instances
from local_stack.scaling import read_counts
from local_stack.state_folder import StackRecord
from monitoring.lag import group_topics
from rehearsals.file import RefusedRehearsal, Rehearsal
from runtime.settings import load_settings
from schemas.topics import all_topics
from services.reprocessing import reprocess
from sinks.postgres import coverage as update
from sinks.postgres.sink import DOWNSTREAM_STAGES
from stores import coverage

def help_of(app, *words):
    return CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "300"}).output

def scale(wanted):
    import typer
    app = typer.Typer()
    app.command()(commands.scale.scale)
    return help_of(app)

def refused(**more):
    try:
        Rehearsal("r", "audit-log", more.pop("kind", "slow"), 5, 0, 10, **more).check()
    except RefusedRehearsal as error:
        return str(error)

ran = []
commands.sink.run_sink = lambda sink, settings: ran.append(type(sink).__name__)
commands.sink.configure_logging = lambda settings, name: ran.append(name)
started = CliRunner().invoke(commands.sink.sink, ["audit-log"], env={"REHEARSALS": "false"}).output
idle = CliRunner().invoke(commands.sink.sink, ["audit-log"], env={"REDIS_URL": "none"}).output
counts = read_counts(["audit-log=2"])
record = StackRecord(port_defaults(counts) | {"API_PORT": 1, "MOCK_PORT": 2}, counts=counts)
print(json.dumps({
    "sinks": help_of(commands.sink.sink),
    "help": help_of(commands.sink.sink, "audit-log"),
    "ran": ran,
    "idle": idle,
    "instances": [(one.name, one.command()[-2:]) for one in role_instances(record) if "audit" in one.name],
    "without": [one.name for one in role_instances(StackRecord(record.ports, without={"redis": "why"}, counts=counts))],
    "scale": scale("audit-log"),
    "readers": {topic.name: topic.read_by for topic in all_topics()},
    "lag": group_topics(load_settings())["sink-audit-log"],
    "lag_without": list(group_topics(load_settings(redis_url="none"))),
    "rehearse": help_of(commands.rehearse.rehearse),
    "refused": [refused(kind="invalid"), refused(source="titanic")],
    "downstream": [list(DOWNSTREAM_STAGES), list(reprocess.DOWNSTREAM_STAGES), str(coverage._FAILED), update._FAILED],
}))
"""


def test_a_sink_that_a_test_declares_is_found_everywhere(tmp_path: Path) -> None:
    (tmp_path / "audit_log.py").write_text(ONE_FILE)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{ONE_LINE}\n{EVERYWHERE}"
    run = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    assert "Keep a log of all changes." in found["sinks"]
    assert "headrace sink audit-log" in found["help"]
    assert found["ran"] == ["sink-audit-log", "AuditLogSink", "sink-audit-log"]
    assert "REDIS_URL is `none`: nobody keeps a log" in found["idle"]
    own = ["sink", "audit-log"]
    assert found["instances"] == [["sink-audit-log", own], ["sink-audit-log-1", own]]
    assert "sink-audit-log" not in found["without"]
    assert "audit-log" in found["scale"]
    changed = sorted(dataset.changed_topic for dataset in all_datasets())
    assert [name for name, readers in found["readers"].items() if "sink-audit-log" in readers] == changed
    assert found["lag"] == changed
    assert "sink-audit-log" not in found["lag_without"]
    assert "audit-log" in found["rehearse"]
    assert found["refused"][0] is None
    assert "leave --source out" in found["refused"][1]
    assert all("audit-log" in one for one in found["downstream"]), found["downstream"]


def test_every_sink_can_be_loaded_and_bears_the_name_under_which_it_is_declared() -> None:
    for sink in SINKS:
        assert load(sink.code).name == sink.name
        if sink.versions:
            held = load(sink.versions)
            assert (held.name, held.group) == (sink.name, sink.group)
        assert bool(sink.needs) == bool(sink.without)


def test_topics_groups_and_sinks_have_no_orphans() -> None:
    settings = load_settings()
    groups = {"normalizer", *(sink.group for sink in SINKS)}
    topics = all_topics()
    assert set(group_topics(settings)) == groups, "every group reads something, and every reader is a group"
    assert all(topic.read_by for topic in topics), "every topic is read"
    writers = {writer for topic in topics for writer in topic.written_by.split(", ")}
    assert writers - {"producers"} <= {role.name for role in ROLES}
    of_datasets = {dataset.changed_topic for dataset in all_datasets()}
    of_datasets |= {name for one in ingested_datasets() for name in (one.raw_topic, one.clean_topic)}
    assert {topic.name for topic in topics} == of_datasets | {"failures"}
    for sink in SINKS:
        assert {name.rpartition(".")[2] for name in topics_read_by(sink.group)} == set(sink.reads)
    assert {role.name for role in ROLES if role.scalable} == groups
    assert set(STAGES) == {"producers", "normalizer", *(sink.name for sink in SINKS)}


def test_the_first_ingestion_in_containers_waits_for_every_sink() -> None:
    services = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"]
    assert {sink.group for sink in SINKS} <= services["ingest"]["depends_on"].keys()
    assert {name for name in services if name.startswith("sink-")} == {sink.group for sink in SINKS}
