"""One registry of metrics: each is documented, is exposed by the roles that it names, and is made nowhere else."""

import re
from pathlib import Path

from prometheus_client import CollectorRegistry, Histogram, generate_latest

from local_stack.programs import ROLES
from runtime.instruments import MAX_LABELS, OTHER, BoundedLabels, BulkHistogram, Catalogue, Tally, exposition
from runtime.metrics import METRICS
from runtime.metrics_document import document

PROJECT = Path(__file__).parents[3]
BOUNDS = (0.1, 1.0, 10.0)


def test_the_document_says_what_the_registry_says() -> None:
    """When this fails: python -m runtime.metrics_document > docs/metrics.md."""
    assert (PROJECT / "docs/metrics.md").read_text() == document()


def test_each_metric_is_of_roles_that_there_are_and_has_a_line_of_meaning() -> None:
    roles = {role.name for role in ROLES}
    names = [one.name for one in METRICS]
    assert len(names) == len(set(names))
    for one in METRICS:
        assert one.roles, one.name
        assert set(one.roles) <= roles, one.name
        assert one.meaning, one.name
        assert "\n" not in one.meaning, one.name
        assert re.fullmatch(r"(headrace|kafka)_[a-z_]+", one.name), one.name
        if one.name.startswith("headrace_"):  # others have named theirs
            assert not one.name.endswith(("_total", "_count", "_sum", "_bucket", "_created")), one.name


def test_metrics_are_made_in_one_place() -> None:
    folders = [path for path in PROJECT.iterdir() if (path / "__init__.py").exists() and path.name != "tests"]
    found = {
        str(file.relative_to(PROJECT))
        for folder in folders
        for file in folder.rglob("*.py")
        if "prometheus_client" in file.read_text()
    }
    assert found == {"runtime/instruments.py"}


def test_a_batch_is_observed_as_prometheus_client_observes_its_values() -> None:
    values = [0.05, 0.1, 0.100001, 1.0, 5.0, 10.0, 11.0, 0.0]
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    one_by_one = Histogram("taken", "Time", ["of"], buckets=BOUNDS, registry=theirs)
    at_once = BulkHistogram("taken", "Time", ["of"], BOUNDS)
    ours.register(at_once)
    for value in values:
        one_by_one.labels("a").observe(value)
    at_once.labels("a").observe_all(values[:5])
    at_once.labels("a").observe_all([])
    for value in values[5:]:
        at_once.labels("a").observe(value)
    assert generate_latest(ours) == generate_latest(theirs)


def test_a_tally_counts_by_labels() -> None:
    registry = CollectorRegistry()
    reads = Tally("reads", "Reads", ["use"])
    registry.register(reads)
    reads.inc(("hit",))
    reads.inc(("hit",), 2)
    assert registry.get_sample_value("reads_total", {"use": "hit"}) == 3
    assert registry.get_sample_value("reads_total", {"use": "miss"}) is None


def test_names_from_outside_have_a_bounded_number_of_labels() -> None:
    labels = BoundedLabels()
    assert {labels.of(f"name {number}") for number in range(3 * MAX_LABELS)} == {
        *(f"name {number}" for number in range(MAX_LABELS)),
        OTHER,
    }


def test_what_no_role_has_asked_for_is_not_exposed() -> None:
    catalogue = Catalogue()
    catalogue.counter(("nobody",), "headrace_never_exposed", "Nothing")
    catalogue.expose("somebody")
    assert b"headrace_never_exposed" not in exposition(None)[1]


def test_one_role_is_exposed_once() -> None:
    METRICS.expose("scheduler")
    METRICS.expose("scheduler")
    for accept, begins in ((None, "text/plain"), ("application/openmetrics-text", "application/openmetrics-text")):
        content_type, body = exposition(accept)
        assert content_type.startswith(begins)
        assert b"headrace_etl_runs" in body
