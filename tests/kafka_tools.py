"""Kafka's own `kafka-consumer-groups`, from Maven, to compare with."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from local_stack.kafka import RECIPE, find_kafka
from local_stack.maven import servers_folder, version_of
from runtime.settings import Settings

TOOL = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"


@dataclass(frozen=True)
class ToolRow:
    """A line of `--describe`. None for `-`."""

    committed: int | None
    end: int | None
    lag: int | None


def describe_groups(settings: Settings, groups: Collection[str]) -> dict[tuple[str, str, int], ToolRow]:
    """`kafka-consumer-groups --describe` of these groups, by group, topic and partition. Blocking: some seconds."""
    kafka = find_kafka()
    command = [
        *(
            kafka.jdk.path("java"),
            "-XX:TieredStopAtLevel=1",
            "-cp",
            f"{kafka.folder / 'lib'}/*{os.pathsep}{_jar()}",
            TOOL,
        ),
        *("--bootstrap-server", settings.kafka_bootstrap_servers, "--describe"),
        *(part for group in groups for part in ("--group", group)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    return {
        (row[0], row[1], int(row[2])): ToolRow(*(None if cell == "-" else int(cell) for cell in row[3:6]))
        for row in rows
        if len(row) >= 6 and row[0] in groups
    }


def _jar() -> Path:
    """The jar that the broker does not come with; fetched once, where the servers are."""
    version = version_of(RECIPE)
    jar = servers_folder() / "tools" / f"kafka-tools-{version}.jar"
    if not jar.exists():
        maven = shutil.which("mvn")
        assert maven is not None
        jar.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=jar.parent) as folder:
            plugin = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
            options = [f"-Dartifact=org.apache.kafka:kafka-tools:{version}", f"-DoutputDirectory={folder}"]
            subprocess.run([maven, "-q", "-B", plugin, *options], check=True, timeout=600, cwd=folder)
            (Path(folder) / jar.name).replace(jar)
    return jar
