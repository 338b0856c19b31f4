"""A bucket of an object store as a destination."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from exports.destination import object_address
from exports.errors import ExportError


class Bucket:
    """A prefix within a bucket of an object store; implements Destination."""

    verb = "uploaded to"
    remark: str | None = None
    folder: Path | None = None

    def __init__(self, store: ObjectStore, url: str) -> None:
        self._store = store
        self._url = url

    def check(self) -> None:
        try:
            next(iter(obstore.list(self._store, chunk_size=1)), None)
        except (BaseError, OSError) as error:
            # Who may write need not be allowed to list.
            if "<Code>AccessDenied</Code>" not in str(error):
                raise self._failed(error) from error

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="headrace-export-") as name:
            yield Path(name)

    def deliver(self, path: Path) -> str:
        try:
            # In parts from 5 MiB on. The object appears when the last part is in; of a failed upload nothing does.
            obstore.put(self._store, path.name, path)
        except (BaseError, OSError) as error:
            raise self._failed(error) from error
        return object_address(self._url, path.name)

    def _failed(self, error: Exception) -> ExportError:
        text = str(error)
        bucket = urlsplit(self._url).netloc
        if isinstance(error, FileNotFoundError) or "NoSuchBucket" in text:
            return ExportError(f"there is no bucket {bucket!r}: make it, or name another one")
        if re.search(r"status code: 40[13]", text):
            return ExportError(f"{self._url} refuses these credentials: {first_line(text)}")
        return ExportError(f"{self._url} cannot be reached: {first_line(text)}")


def first_line(text: str) -> str:
    """An error's first line: the library appends its innards."""
    return text.strip().splitlines()[0][:400]
