"""Deletes by key go where the records of that key went."""

from pathlib import Path

from producers.jsonl.source import DeletedKeysSource, Lines
from producers.source import SourceDescription
from schemas.registry import dataset_named

CUSTOMERS = SourceDescription("push", "push", dataset_named("customers"))


def test_a_delete_has_the_normalized_key_of_its_record(tmp_path: Path) -> None:
    lines = tmp_path / "keys"
    lines.write_text("Jose\u0301  1 \n" + "a\x00" + "\n")
    for source in (
        DeletedKeysSource(CUSTOMERS, Lines(lines)),
        DeletedKeysSource(CUSTOMERS, ("Jose\u0301  1", "a\x00")),
    ):
        keys = [record.key for batch in source.read() for record in batch.records]
        assert keys == ["Jos\u00e9 1", "a\x00"]  # the second is no key of any: the normalizer rejects it
