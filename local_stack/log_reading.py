"""Reads the log files of several processes, and follows them as they grow and are rotated."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Self

from local_stack.server import last_lines

POLL_SECONDS = 0.25


class FollowedLog:
    """One growing file; survives its rotation and its not being there yet. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def start_at_end(self) -> None:
        """Leave out what is there already."""
        self._open()
        if self._file is not None:
            self._file.seek(0, os.SEEK_END)

    def new_lines(self) -> list[str]:
        """Complete lines since the last call."""
        if not self._open():
            return []
        lines = self._read()
        if self._was_rotated():
            self._close()
            if self._open():
                lines += self._read()
        return lines

    def _read(self) -> list[str]:
        if self._file is None:
            return []
        *complete, self._rest = (self._rest + self._file.read()).split(b"\n")
        return [line.decode("utf-8", "replace") for line in complete]

    def _open(self) -> bool:
        if self._file is None:
            try:
                self._file = self._path.open("rb")
            except FileNotFoundError:
                return False
        return True

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


def tail(logs: Sequence[Path], count: int) -> Iterator[tuple[str, str]]:
    """The last lines of each log, as (stem, line)."""
    for log in logs:
        for line in last_lines(log, count):
            yield log.stem, line


def follow(logs: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """New lines of all logs as they are written, as (stem, line). Endless; blocks between lines."""
    with ExitStack() as files:
        followed = {log.stem: files.enter_context(FollowedLog(log)) for log in logs}
        for one in followed.values():
            one.start_at_end()
        while True:
            found = [(name, line) for name, one in followed.items() for line in one.new_lines()]
            yield from found
            if not found:
                time.sleep(POLL_SECONDS)
