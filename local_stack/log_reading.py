"""Reads the ends of log files, and follows several as they grow and are rotated."""

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Self

LOG_TAIL_LINES = 15

POLL_SECONDS = 0.25


def size_of(log: Path) -> int:
    """The length of a log file in bytes; 0 where there is none."""
    return log.stat().st_size if log.exists() else 0


def last_lines(log: Path, count: int = LOG_TAIL_LINES, *, since: int = 0) -> list[str]:
    """The last lines of a log file, of those after byte `since` if it hasn't been rotated meanwhile; empty where there
    is none. Reads 64 KB at most.
    """
    try:
        with log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 65_536, since if since <= end else 0))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return list(deque((line for line in lines if line.strip()), maxlen=count))


def ending(log: Path, most: int) -> tuple[list[str], bool]:
    """The whole lines in the last `most` bytes of a log, and of the one that was put aside before it; True if that is
    not all. Blank lines are left out.
    """
    pieces, left, cut = [], most, False
    for file in (log, log.with_name(f"{log.name}.1")):
        try:
            with file.open("rb") as opened:
                size = opened.seek(0, os.SEEK_END)
                cut = size > left
                opened.seek(max(0, size - left))
                piece = opened.read(left)
        except OSError:
            continue
        pieces.append(piece.partition(b"\n")[2] if cut else piece)
        left -= len(piece)
        if cut or left <= 0:
            break
    lines = b"".join(pieces[::-1]).decode("utf-8", "replace").splitlines()
    return [line for line in lines if line.strip()], cut


def follow(logs: Sequence[Path]) -> Iterator[dict[str, list[str]]]:
    """New lines of all logs as they are written, by stem; those of one moment together. Endless; blocks between."""
    with ExitStack() as files:
        followed = {log.stem: files.enter_context(FollowedLog(log)) for log in logs}
        while True:
            found = {name: lines for name, one in followed.items() if (lines := one.new_lines())}
            if found:
                yield found
            time.sleep(POLL_SECONDS)


class FollowedLog:
    """One growing file, from its present end on; survives its rotation and its not being there yet.

    Use as a context manager.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""

    def __enter__(self) -> Self:
        self._read()  # leaves out what is there already
        self._rest = b""
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def new_lines(self) -> list[str]:
        """Complete lines since the last call."""
        lines = self._read()
        if self._was_rotated():
            self._close()
            lines += self._read()
        return lines

    def _read(self) -> list[str]:
        if self._file is None:
            try:
                self._file = self._path.open("rb")
            except FileNotFoundError:
                return []
        *complete, self._rest = (self._rest + self._file.read()).split(b"\n")
        return [line.decode("utf-8", "replace") for line in complete]

    def _was_rotated(self) -> bool:
        if self._file is None:
            return False
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return True
        return there.st_ino != os.fstat(self._file.fileno()).st_ino or there.st_size < self._file.tell()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._rest = None, b""
