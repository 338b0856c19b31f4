"""A kind of source is one model and one line in the registry: all that knows kinds knows it then."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from commands.publish import declared_sources
from producers.block import SourceBlock
from producers.raw_records import RawHeaders
from producers.source import Source, SourceBatch, SourceDescription, SourceRecord
from producers.sources import KINDS, SourcesError, build_source, load_sources
from runtime.settings import Settings
from schemas.events import HEADER_CONTENT_TYPE, HEADER_KIND

FILE = """
[sources.log]
kind = "diary"
dataset = "records"
pages = 2

[sources.torn]
kind = "diary"
dataset = "records"

[sources.letters]
kind = "letters"
dataset = "records"
pages = 1
"""


class DiaryBlock(SourceBlock):
    content_type = "text/plain"
    kind: Literal["diary"]
    pages: int

    def build(self, name: str, settings: Settings, folder: Path) -> Source:  # noqa: ARG002
        return Diary(self.describe(name), self.pages)


class LettersBlock(DiaryBlock):
    pushed = True
    kind: Literal["letters"]  # type: ignore[assignment]


@dataclass(frozen=True)
class Diary:
    description: SourceDescription
    pages: int

    async def batches(self) -> AsyncIterator[SourceBatch]:
        yield SourceBatch([SourceRecord(f"page {page}".encode(), None) for page in range(self.pages)], 1.0)


@pytest.fixture
def sources_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for block in (DiaryBlock, LettersBlock):
        monkeypatch.setitem(KINDS, block.kind_name(), block)
    file = tmp_path / "sources.toml"
    file.write_text(FILE)
    return file


def test_every_kind_bears_the_name_that_its_blocks_have() -> None:
    assert {name: block.kind_name() for name, block in KINDS.items()} == {name: name for name in KINDS}


async def test_a_block_of_a_new_kind_is_a_source_with_its_own_settings_and_content_type(sources_file: Path) -> None:
    log = load_sources(sources_file, Settings())["log"]
    assert [record.value async for batch in log.batches() for record in batch.records] == [b"page 0", b"page 1"]
    headers = dict(RawHeaders(log.description, "run").of(0, None))
    assert (headers[HEADER_KIND], headers[HEADER_CONTENT_TYPE]) == (b"diary", b"text/plain")


def test_a_mistake_in_a_block_of_a_new_kind_is_reported_like_any_other(sources_file: Path) -> None:
    assert "a source of kind diary needs it" in load_sources(sources_file, Settings()).broken["torn"]
    with pytest.raises(SourcesError, match=r"expected one of api, csv, diary, jsonl, kafka, letters, rss, webhook"):
        build_source("x", {"kind": "nothing"}, Settings(), Path())


def test_a_source_of_a_new_kind_is_published_with_all_others_unless_it_is_pushed(sources_file: Path) -> None:
    chosen, _ = declared_sources([], True, sources_file, Settings())
    assert [source.description.name for source in chosen] == ["log"]


def test_no_source_may_be_called_like_a_new_kind(sources_file: Path) -> None:
    sources_file.write_text(FILE.replace("[sources.log]", "[sources.diary]"))
    assert "is the name of a kind" in load_sources(sources_file, Settings()).broken["diary"]
