import gzip
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from producers.jsonl import source as json_lines_source
from producers.jsonl.source import JsonLinesSource
from producers.source import SourceDescription, SourceFailed
from schemas.registry import dataset_named
from tests.waiting import eventually

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


def test_a_pipe_that_was_set_not_to_block_is_read_to_its_end() -> None:
    code = (
        "from pathlib import Path; from tests.unit.producers.test_json_lines import PUSHED, JsonLinesSource;"
        "print([record.key for batch in JsonLinesSource(PUSHED, Path('-')).read() for record in batch.records])"
    )
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    with (
        subprocess.Popen([sys.executable, "-c", code], stdin=ours, stdout=subprocess.PIPE, text=True) as reader,
        os.fdopen(ours, "rb", 0) as pipe,
        os.fdopen(theirs, "wb", 0) as writer,
    ):
        for key in (b"a", b"b"):
            writer.write(b'{"customer_id":"%s"}\n' % key)
            eventually(lambda: not select.select([pipe], [], [], 0)[0], what="it has read the line")
        writer.close()
        assert reader.communicate(timeout=60)[0] == "['a', 'b']\n"


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


def test_a_packed_file_that_unpacks_to_too_much_is_given_up(tmp_path: Path) -> None:
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


TWO = '{"customer_id":"a","first_name":"Zoë"}\n{"customer_id":"b"}\n'


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_mark_before_the_first_line_is_read_past_and_says_the_encoding(
    tmp_path: Path, codec: str, pack: Callable[[bytes], bytes]
) -> None:
    expected = [(line.encode(), key) for line, key in zip(TWO.splitlines(), "ab", strict=True)]
    assert lines(tmp_path / "x", pack(TWO.encode(codec))) == expected
    assert lines(tmp_path / "x", pack("".encode(codec))) == []


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16"])
def test_a_pipe_that_gives_byte_after_byte_is_read_past_its_mark(tmp_path: Path, codec: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write() -> None:
        with pipe.open("wb", 0) as file:
            for byte in TWO.encode(codec):
                file.write(bytes([byte]))

    threading.Thread(target=write, daemon=True).start()
    found = [record.key for batch in JsonLinesSource(PUSHED, pipe).read() for record in batch.records]
    assert found == ["a", "b"]


def test_marks_where_files_were_put_together_are_no_part_of_a_record(tmp_path: Path) -> None:
    content = TWO.encode("utf-8-sig") + TWO.replace("a", "c", 1).encode("utf-8-sig")
    found = [key for _, key in lines(tmp_path / "x", content)]
    assert found == ["a", "b", "c", "b"]
