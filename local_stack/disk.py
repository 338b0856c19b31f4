"""Refuses to start on a full disk, where servers fail later and less clearly."""

import shutil
from pathlib import Path

from local_stack.errors import StackError

REQUIRED_BYTES = 1024**3
"""Servers, indices and logs of the first ingestion take some 600 MB; below that Kafka and Postgres die mid-write."""


def require_space(folder: Path, required_bytes: int = REQUIRED_BYTES) -> None:
    """Raise StackError unless the file system that holds (or will hold) this folder has enough free space."""
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < required_bytes:
        raise StackError(
            f"The disk is full: {free >> 20} MB free under {existing}, {required_bytes >> 20} MB needed.",
            remedy="Free some space (`headrace clean` deletes this stack's data), or move the stack: "
            "HEADRACE_HOME=/elsewhere headrace up",
        )
