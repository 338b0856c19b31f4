"""What a destination of files must be able to do."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol


class Destination(Protocol):
    """Takes finished files. Building one touches nothing."""

    verb: str
    """What the log line says was done to a file, up to its address."""

    @property
    def remark(self) -> str | None:
        """What a person should know of it besides."""

    @property
    def folder(self) -> Path | None:
        """The folder of this machine that the files end in; None for a bucket."""

    def check(self) -> None:
        """Raise ExportError if files cannot go there; called before the work begins. Blocking."""

    def workspace(self) -> AbstractContextManager[Path]:
        """A folder to write the files in, removed in the end."""

    def deliver(self, path: Path) -> str:
        """Put a file there under its name, atomically, and return its address. Blocking. Raises ExportError."""


def object_address(url: str, name: str) -> str:
    """As the log line has it: S3://bucket/prefix/name."""
    scheme, _, rest = url.partition("://")
    return f"{scheme.upper()}://{rest}/{name}"
