"""What deploy/kubernetes says without Helm: the same roles, topics and sizes as everything else here."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from local_stack.programs import ROLES
from runtime.kafka.topics_file import topics_file
from runtime.settings import Settings

PROJECT = Path(__file__).parents[2]
CHART = PROJECT / "deploy" / "kubernetes"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())

NOT_IN_A_CLUSTER = {"watchdog", "mock-server"}
"""Restarts are the cluster's business, and customers to try out with are nobody's."""


def test_the_chart_has_every_role_with_its_command_and_its_group() -> None:
    ours = {role.name: role for role in ROLES if role.name not in NOT_IN_A_CLUSTER}
    chart = VALUES["roles"]
    assert {name: tuple(role["command"]) for name, role in chart.items()} == {
        name: role.arguments for name, role in ours.items()
    }
    assert {name for name, role in chart.items() if "group" in role} == {n for n, r in ours.items() if r.scalable}
    assert all(role.get("group", name) == name for name, role in chart.items())
    for name, role in ours.items():
        assert ("port" in chart[name]) == (role.port_variable is not None), name
        if role.needs:
            assert role.needs in chart[name]["reaches"]


def test_the_file_of_topics_is_current() -> None:
    file = CHART / "files" / "topics.yaml"
    assert file.read_text() == topics_file(), f"python -m runtime.kafka.topics_file > {file.relative_to(PROJECT)}"


def test_every_role_asks_for_what_it_needed_in_our_measurements() -> None:
    results = json.loads((PROJECT / "benchmarks" / "results.json").read_text())
    peaks = results["benchmarks"]["whole"]["peak_megabytes"]
    limit = _mebibytes(VALUES["memoryLimit"])
    for name, role in VALUES["roles"].items():
        asked = _mebibytes(role["memory"])
        assert peaks[name] <= asked <= 2.5 * peaks[name], (name, peaks[name], asked)
        assert limit >= 2 * peaks[name]


def test_no_value_of_the_chart_is_a_secret() -> None:
    text = (CHART / "values.yaml").read_text()
    assert not re.search(r"(?i)(password|api_key|database_url|redis_url)\s*:\s*\S", text)


BY_THE_PODS_ROLE = {"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
"""Secret settings that no pod needs: a cloud gives its rights to the ServiceAccount."""


def test_every_secret_setting_reaches_a_role() -> None:
    given = {name for names in VALUES["secretSettings"].values() for name in names}
    given |= {name for role in VALUES["roles"].values() for name in role.get("secrets", ())}
    secret = {name.upper() for name, field in Settings.model_fields.items() if "SecretStr" in str(field)}
    assert secret - BY_THE_PODS_ROLE <= given
    reached = {server for role in VALUES["roles"].values() for server in role["reaches"]}
    assert VALUES["secretSettings"].keys() == reached | {"everything"}


def _mebibytes(text: str) -> int:
    assert text.endswith("Mi")
    return int(text.removesuffix("Mi"))
