"""The Makefile, as it is called on any machine."""

import os
import subprocess
from pathlib import Path

from tests.processes import PROJECT


def test_processes_keep_what_they_compile_whatever_the_machine_says(tmp_path: Path) -> None:
    probe = tmp_path / "probe.mk"
    probe.write_text("probe:\n\t@env\n")
    command = ["make", "--silent", "-f", "Makefile", "-f", str(probe), "probe"]
    told = {"PYTHONDONTWRITEBYTECODE": "1", "ELSEWHERE": "as it was"}
    done = subprocess.run(command, cwd=PROJECT, env=os.environ | told, capture_output=True, text=True, check=True)
    assert "ELSEWHERE=as it was" in done.stdout
    assert "PYTHONDONTWRITEBYTECODE" not in done.stdout
