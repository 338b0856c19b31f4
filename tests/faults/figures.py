"""Figures that a fault test has measured: printed, and kept for the table in `docs/reliability.md`."""

import json
import os
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tests.faults.scale import scale_name

FOLDER = "HEADRACE_FIGURES"
"""The environment variable that names the folder to keep figures in; without it they are only printed."""


@dataclass(frozen=True)
class Figure:
    """One row of the table."""

    fault: str
    times: int
    """Number of times that the fault happened."""
    records: int
    """Records that were published meanwhile."""
    lost: int
    double: int
    recovery_seconds: float
    """From the end of the (last) fault until every record had its outcome in every store.

    Where the load went on after the fault, the rest of it is included.
    """
    note: str = ""
    form: str = ""
    """long or short, see `tests.faults.scale`; filled in by `record_figure`."""


def record_figure(figure: Figure) -> None:
    """Print it, and keep it where the figures are wanted. A later figure of the same fault replaces it."""
    figure = replace(figure, form=scale_name())
    sys.stdout.write(f"\n{figure}\n")
    if folder := os.environ.get(FOLDER):
        name = "".join(character if character.isalnum() else "-" for character in figure.fault.lower())
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        (path / f"{name}.json").write_text(json.dumps(asdict(figure)))


def read_figures(folder: Path) -> list[Figure]:
    """The figures kept in this folder, by fault."""
    return [Figure(**json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]
