import inspect

from commands.publish import publish
from producers.block import FetchBlock, SourceBlock
from producers.csv.source import CsvBlock

RENAMED = {"defaults": "default", "nulls": "null", "text_nulls": "text_null"}


def test_a_csv_file_without_a_block_has_an_option_for_every_setting_of_one() -> None:
    of_fetching = FetchBlock.model_fields.keys() - SourceBlock.model_fields.keys()
    settings = CsvBlock.model_fields.keys() - of_fetching - {"kind", "path", "interval_seconds"}
    assert "region" in settings
    assert {RENAMED.get(setting, setting) for setting in settings} <= inspect.signature(publish).parameters.keys()
