import inspect

import pytest
import typer

from commands.publish import _csv_source, publish
from producers.block import FetchBlock, SourceBlock
from producers.csv.source import CsvBlock
from runtime.settings import Settings

RENAMED = {"defaults": "default", "nulls": "null", "text_nulls": "text_null"}


def test_a_csv_file_without_a_block_has_an_option_for_every_setting_of_one() -> None:
    of_fetching = FetchBlock.model_fields.keys() - SourceBlock.model_fields.keys()
    settings = CsvBlock.model_fields.keys() - of_fetching - {"kind", "path", "interval_seconds"}
    assert "region" in settings
    assert {RENAMED.get(setting, setting) for setting in settings} <= inspect.signature(publish).parameters.keys()


def test_an_address_that_is_none_is_told_with_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        _csv_source(["http://[::1/x.csv"], None, {"dataset": "records"}, Settings())
    assert "csv: 'http://[::1/x.csv' is no address" in capsys.readouterr().err
