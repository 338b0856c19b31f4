"""Documents are true and easy to read: what they name exists, their lines are short, decisions have date and status."""

import json
import re
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import TypeAdapter

from local_stack.addresses import DEFAULT_PORTS
from runtime.settings import Settings

PROJECT = Path(__file__).parents[2]
DECISIONS = sorted((PROJECT / "docs/decisions").glob("[0-9]*.md"))
DOCUMENTS = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md"), *PROJECT.glob("data/*.md")])
# Set by the supervisor for one process, not by people.
PER_PROCESS = {"WORKER_ID", "HEALTH_PORT", "API_URL", "MOCK_URL", "DASHBOARD_URL"}

OUR_TEXTS = sorted(
    [*(PROJECT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")), *PROJECT.glob("docs/**/*.md")]
)
WIDEST_LINE = 140
DEFAULT_SERVERS = {"kafka", "postgres", "redis", "elasticsearch"}
HALF_A_PAGE = 32
"""Lines."""


def variables() -> set[str]:
    return {name.upper() for name in Settings.model_fields}


def test_every_setting_is_in_the_example_and_the_example_has_no_other() -> None:
    example = set(re.findall(r"^#([A-Z_]+)=", (PROJECT / ".env.example").read_text(), re.MULTILINE))
    assert example == (variables() | set(DEFAULT_PORTS)) - PER_PROCESS


def test_the_example_shows_the_defaults() -> None:
    shown = dict(re.findall(r"^#([A-Z_]+)=(.*)$", (PROJECT / ".env.example").read_text(), re.MULTILINE))
    for name, info in Settings.model_fields.items():
        value = shown.get(name.upper())
        if value and name != "api_host":  # it shows what the default comes to
            checked: TypeAdapter[object] = TypeAdapter(Annotated[info.annotation, info])  # type: ignore[arg-type]
            assert checked.validate_python(value) == info.default, name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_local_link_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)|src=\"([^\"]+)\"", document.read_text())
    for link in (first or second for first, second in links):
        if "://" not in link:
            assert (document.parent / link).exists(), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_file_that_is_named_exists(document: Path) -> None:
    for name in re.findall(r"`([a-z0-9_]+/[a-z0-9_/]+\.(?:py|toml|md|csv))`", document.read_text()):
        assert (PROJECT / name).exists(), name


def test_every_promise_of_the_threat_model_names_the_tests_that_hold_it() -> None:
    text = (PROJECT / "docs/security.md").read_text()
    rows = text.partition("## The threat model")[2].partition("Not promised")[0].strip().splitlines()[2:]
    assert len(rows) > 5
    for row in rows:
        tests = re.findall(r"`(tests/[a-z0-9_/]+\.py)`", row.split("|")[4])
        assert tests, row
        assert all((PROJECT / test).exists() for test in tests), row


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        named = set(re.findall(r"(?:^|`)make ([a-z-]+)", document.read_text(), re.MULTILINE))
        assert named <= targets, document


@pytest.mark.parametrize("document", OUR_TEXTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_no_line_is_wide_that_can_be_broken(document: Path) -> None:
    """Rows of tables cannot be broken, nor can a link that stands alone in its line."""
    for number, line in enumerate(document.read_text().splitlines(), 1):
        if not line.startswith("|") and len(line.split()) > 1:
            assert len(line) <= WIDEST_LINE, f"line {number} has {len(line)} characters"


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_has_a_date_a_status_and_half_a_page(decision: Path) -> None:
    title, _, status_line, _, *body = decision.read_text().splitlines()
    number = decision.name[:4]
    assert title.startswith(f"# {number} ")
    _, status = date_and_status(status_line)
    numbers = {path.name[:4] for path in DECISIONS}
    assert set(re.findall(r"[0-9]{4}", status)) <= {later for later in numbers if later > number}
    assert len(body) <= HALF_A_PAGE


def test_the_index_of_decisions_says_in_one_line_what_each_decided() -> None:
    index = (PROJECT / "docs/decisions/README.md").read_text()
    listed = re.findall(r"^- \[([0-9]{4})\]\((.+)\), (.+)\\\n  (.+)$", index, re.MULTILINE)
    assert [name for _, name, _, _ in listed] == [decision.name for decision in DECISIONS]
    for decision, (number, name, status, decided) in zip(DECISIONS, listed, strict=True):
        assert name.startswith(number)
        assert decision.read_text().splitlines()[2] == f"*{status}*"
        assert decided.endswith(".")


def date_and_status(line: str) -> tuple[str, str]:
    found = re.fullmatch(r"\*(20[0-9]{2}-[0-9]{2}-[0-9]{2}), ((?:accepted|superseded).*)\*", line)
    assert found, line
    return found[1], found[2]


def test_every_setting_that_the_deployment_names_exists() -> None:
    text = (PROJECT / "DEPLOYMENT.md").read_text() + (PROJECT / "deploy/kubernetes/values.yaml").read_text()
    named = set(re.findall(r"(?<![=A-Z])\b((?:[A-Z]+_)+[A-Z]+)\b", text))
    assert len(named) > 20
    assert named <= variables() | PER_PROCESS | {"API_ACCESS"}


def test_the_sizes_of_the_deployment_are_those_that_were_measured() -> None:
    results = json.loads((PROJECT / "benchmarks/results.json").read_text())["benchmarks"]
    text = (PROJECT / "DEPLOYMENT.md").read_text()
    measured = (PROJECT / "docs/performance.md").read_text()
    for figure in re.findall(r"^\| (?:into|one) .*", text, re.MULTILINE):
        for number in re.findall(r"\d[\d,.]*\d", figure.rpartition(" of which ")[0] or figure):
            assert number in measured, f"{number} in: {figure}"
    peaks = results["whole"]["peak_megabytes"]
    ours = [peak for name, peak in peaks.items() if name not in DEFAULT_SERVERS]
    low, high = (int(number) for number in re.findall(r"(\d+) to (\d+) MB a process", text)[0])
    assert (low, high) == (min(ours), max(ours))
