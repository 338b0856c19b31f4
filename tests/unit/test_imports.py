"""Imports point inward, and importing opens nothing."""

import pkgutil
import subprocess
import sys
from pathlib import Path

from importlinter.cli import lint_imports

PROJECT = Path(__file__).parents[2]
PACKAGES = (
    "schemas",
    "runtime",
    "stores",
    "services",
    "producers",
    "stream_processors",
    "sinks",
    "api",
    "monitoring",
    "mock_server",
    "local_stack",
    "commands",
    "data",
    "rehearsals",
    "exports",
)

REFUSE_SOCKETS = """
import importlib, socket, sys
def refuse(*_, **__): raise AssertionError("importing opened a socket")
socket.socket.connect = socket.socket.bind = refuse
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_imports_point_inward() -> None:
    assert lint_imports(config_filename=str(PROJECT / "pyproject.toml"), cache_dir=None) == 0


def test_importing_any_module_opens_no_socket() -> None:
    modules = [
        module.name
        for package in PACKAGES
        for module in pkgutil.walk_packages([str(PROJECT / package)], f"{package}.")
        if "migrations" not in module.name and not module.name.endswith("__main__")
    ]
    assert len(modules) > 50
    command = [sys.executable, "-c", REFUSE_SOCKETS, *modules]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
