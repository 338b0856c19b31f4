"""Programs where the servers' user can run them: a virtual environment or a cache below /root is closed to it."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from local_stack.unprivileged import can_enter

COPIES = Path("/var/cache/headrace")
"""Root's own; the servers' user reads and runs what is in it."""


def reachable(program: Path) -> Path:
    """The program's file or folder, or for root, where its servers' user can't get at it, a copy that it can run.

    A copy is made once per content. Blocking: a second at first, some 0.1 s to look at it again. Raises OSError.
    """
    if can_enter(program if program.is_dir() else program.parent):
        return program
    root, parts = _together(program)
    copy = COPIES / f"{parts[0].name}-{_digest(parts)}"
    if not copy.exists():
        COPIES.mkdir(mode=0o755, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".copying-", dir=COPIES) as aside:
            made = Path(aside, "made")
            made.mkdir()
            for part in parts:
                _copy(part, made / part.name)
            _open(made)
            try:
                made.rename(copy)
            except OSError:
                if not copy.exists():  # otherwise somebody else has made it meanwhile
                    raise
    return copy / program.relative_to(root)


def _together(program: Path) -> tuple[Path, list[Path]]:
    """What the program needs beside itself, and the folder that all of it is in: of a wheel, its libraries too."""
    for folder in program.parents:
        if folder.parent.name == "site-packages":
            libraries = folder.with_name(f"{folder.name}.libs")
            return folder.parent, [folder, *([libraries] if libraries.is_dir() else [])]
    return program.parent, [program]


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target)


def _open(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            runs = path.is_dir() or path.stat().st_mode & 0o111
            path.chmod(0o755 if runs else 0o644)


def _digest(parts: Sequence[Path]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        for path in sorted([part, *part.rglob("*")]):
            digest.update(os.fsencode(path.relative_to(part.parent)) + b"\0")
            if path.is_file():
                digest.update(path.read_bytes())
    return digest.hexdigest()
