import datetime
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import nightly
from tests.nightly import DOCUMENT, STEPS, Ended
from tests.table_rows import with_row

ENDED = Ended("faults", datetime.date(2026, 11, 29), ok=False, tests="3 failed, 11 passed", seconds=1_140)


def test_the_document_has_a_row_for_every_step() -> None:
    rows = re.findall(r"^\| (\w+) \| .*$", DOCUMENT.read_text(), re.MULTILINE)
    assert [name for name in rows if name != "step"] == list(STEPS)


def test_a_run_replaces_the_row_of_its_step_and_no_other() -> None:
    before = DOCUMENT.read_text()
    after = with_row(before, ENDED.step, ENDED.row())
    assert "| faults | `make test-faults` | 2026-11-29 | FAILED | 3 failed, 11 passed | 19 min |" in after
    assert with_row(after, ENDED.step, ENDED.row()) == after
    changed = [line for line in after.splitlines() if line not in before.splitlines()]
    assert len(changed) == 1


def test_a_document_without_the_step_is_refused() -> None:
    with pytest.raises(ValueError, match="no row for faults"):
        with_row("# Nothing", ENDED.step, ENDED.row())


def test_the_names_of_the_steps_do_not_reach_the_make_of_a_step(tmp_path: Path) -> None:
    run_a_step = "from tests import nightly; nightly.STEPS = {'x': ('make', '-n', 'test-world')}; nightly.run('x')"
    above = tmp_path / "Makefile"
    above.write_text(f'nightly:\n\t@"{sys.executable}" -c "{run_a_step}"\n')
    done = subprocess.run(
        ["make", "-f", str(above), "nightly", "ARGS=wheels"],
        cwd=nightly.PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pytest tests/world" in done.stdout
    assert "pytest tests/world wheels" not in done.stdout
