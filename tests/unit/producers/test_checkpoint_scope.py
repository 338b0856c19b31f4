from pathlib import Path
from typing import Any

import pytest

from producers.checkpointing import scope_of
from producers.jsonl.source import DeletedKeysSource
from producers.source import ResumableSource, SourceDescription
from producers.sources import build_source
from runtime.settings import Settings
from schemas.registry import dataset_named

API = {"kind": "api", "url": "http://x/y", "dataset": "records", "map": {"source_id": "id"}}
CSV = {"kind": "csv", "path": "a.csv", "dataset": "records", "map": {"source_id": "id"}}


def scope(values: dict[str, Any], topic_id: str = "t") -> str:
    source = build_source("shop", values, Settings(), Path("/data"))
    assert isinstance(source, ResumableSource)
    return scope_of(source, topic_id)


@pytest.mark.parametrize(
    ("values", "change"),
    [
        (API, {"url": "http://x/z"}),
        (API, {"page_size": 7}),
        (API, {"pagination": {"style": "array"}}),
        (API, {"map": {"source_id": "id", "name": "title"}}),
        (API, {"defaults": {"value": 0}}),
        (API, {"required": ["description"]}),
        (CSV, {"path": "b.csv"}),
        (CSV, {"encoding": "utf-8"}),
        (CSV, {"delimiter": ";"}),
        (CSV, {"map": {"source_id": "number"}}),
        (CSV, {"decimal": ","}),
        (CSV | {"dataset": "customers", "map": {}}, {"dates": "day_first"}),
        (CSV | {"dataset": "customers", "map": {}}, {"region": "DE"}),
    ],
)
def test_settings_that_change_the_records_void_the_checkpoint(values: dict[str, Any], change: dict[str, Any]) -> None:
    assert scope(values | change) != scope(values)


def test_settings_of_pace_do_not_void_the_checkpoint() -> None:
    assert scope(
        API | {"concurrency": 9, "retries": 0, "timeout_seconds": 1, "interval_seconds": 5, "rate_limit": 3}
    ) == scope(API)


def test_a_recreated_topic_voids_the_checkpoint() -> None:
    assert scope(CSV, "another") != scope(CSV)


def test_a_source_without_positions_cannot_resume() -> None:
    description = SourceDescription("x", "push", dataset_named("records"))
    assert not isinstance(DeletedKeysSource(description, ("a",)), ResumableSource)
