"""Sources in turn: whatever happens to one, the others are read."""

import json
from pathlib import Path

import pytest
import typer

from commands import publish_runs
from commands.publish_runs import PublishRuns
from producers.publish import PublishReport
from producers.source import Source
from producers.sources import build_source
from runtime.settings import Settings


def test_a_mistake_of_ours_in_one_source_is_reported_and_the_next_source_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def publish(source: Source, *_: object, **__: object) -> PublishReport:
        if source.description.name == "one":
            raise ZeroDivisionError
        return PublishReport("run", 0, 0, {}, 0.1)

    monkeypatch.setattr("services.runs.run.publish", publish)
    monkeypatch.setattr(publish_runs, "configure_logging", lambda *_: None)
    block = {"kind": "csv", "dataset": "records", "path": "x.csv"}
    sources = [build_source(name, block, Settings(), Path()) for name in ("one", "two")]
    with pytest.raises(typer.Exit) as ended:
        PublishRuns(Settings(), as_json=True, wait=False, timeout_seconds=None).execute(sources, {})
    output = capsys.readouterr().out
    one, two = json.loads(output[output.index("{\n") :])["runs"]
    assert (ended.value.exit_code, one["error"].split(";")[0]) == (1, "an error inside (ZeroDivisionError)")
    assert (two["source"], two["error"]) == ("two", None)
