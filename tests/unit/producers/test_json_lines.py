import gzip
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from producers import json_lines_source
from producers.json_lines_source import JsonLinesSource
from producers.source import SourceDescription, SourceFailed
from schemas.registry import dataset_named

PUSHED = SourceDescription("push", "push", dataset_named("customers"))


def lines(path: Path, content: bytes) -> list[tuple[bytes, str | None]]:
    path.write_bytes(content)
    return [(r.value or b"", r.key) for batch in JsonLinesSource(PUSHED, path).read() for r in batch.records]


def test_lines_pass_through_untouched_and_blank_ones_are_skipped(tmp_path: Path) -> None:
    content = b'{"customer_id": "a" }\r\n\n  \n{"customer_id":"b"}\nnot json\n{"customer_id":"c"}'
    assert lines(tmp_path / "x", content) == [
        (b'{"customer_id": "a" }', "a"),
        (b'{"customer_id":"b"}', "b"),
        (b"not json", None),
        (b'{"customer_id":"c"}', "c"),
    ]


def test_lines_longer_than_a_read_come_whole(tmp_path: Path) -> None:
    long = b'{"customer_id":"a","x":"' + b"y" * (3 * json_lines_source.READ_BYTES) + b'"}'
    assert lines(tmp_path / "x", long + b"\n" + b'{"customer_id":"b"}\n') == [
        (long, "a"),
        (b'{"customer_id":"b"}', "b"),
    ]


def test_a_line_without_end_is_cut_and_the_next_one_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines_source, "LONGEST_LINE", json_lines_source.READ_BYTES)
    content = b"x" * (5 * json_lines_source.READ_BYTES) + b"\n" + b'{"customer_id":"b"}\n'
    cut, after = lines(tmp_path / "x", content)
    assert len(cut[0]) <= 2 * json_lines_source.READ_BYTES
    assert after == (b'{"customer_id":"b"}', "b")


def test_a_missing_file_fails_the_run(tmp_path: Path) -> None:
    with pytest.raises(SourceFailed, match="cannot be read: No such file"):
        list(JsonLinesSource(PUSHED, tmp_path / "x").read())


def test_a_file_packed_with_gzip_is_read_like_any_other(tmp_path: Path) -> None:
    content = b"".join(b'{"customer_id":"%d"}\n' % n for n in range(50_000))
    two_members = gzip.compress(content) + gzip.compress(b'{"customer_id":"last"}')
    assert [key for _, key in lines(tmp_path / "x.gz", two_members)] == [*map(str, range(50_000)), "last"]
    shares = [batch.done for batch in JsonLinesSource(PUSHED, tmp_path / "x.gz").read()]
    assert shares == sorted(share for share in shares if share is not None)
    assert shares[-1] == 1.0


@pytest.mark.parametrize("damage", [lambda packed: packed[:-9], lambda packed: packed[:40] + b"?" * 9 + packed[49:]])
def test_a_gzip_that_is_cut_off_or_damaged_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    packed = gzip.compress(b"".join(b'{"customer_id":"%d"}\n' % n for n in range(1000)))
    with pytest.raises(SourceFailed, match=r"x\.gz: its gzip is cut off or damaged .*; get the file again"):
        lines(tmp_path / "x.gz", damage(packed))


def test_a_packed_file_that_becomes_more_than_it_may_is_left_there(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"{}\n" * 1_000_000))
    read = JsonLinesSource(PUSHED, tmp_path / "x.gz", 1_000_000).read()
    records = 0
    with pytest.raises(SourceFailed, match=r"x\.gz: it unpacks to more than 1,000,000 bytes; .*raise `max_bytes`"):  # noqa: PT012
        for batch in read:
            records += len(batch.records)
    assert 0 < records <= 333_334


def test_a_pipe_is_read_without_being_looked_into_first(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_bytes, args=(b'{"customer_id":"a"}\n',), daemon=True).start()
    [batch] = list(JsonLinesSource(PUSHED, pipe).read())
    assert ([record.key for record in batch.records], batch.done) == (["a"], None)
