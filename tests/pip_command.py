"""The command that calls pip in this environment."""

import shutil
import sys
from importlib.util import find_spec


def pip_command() -> list[str]:
    """pip of this environment; uv makes some without it."""
    if find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip3")
    assert found, "pip3 is not on PATH, and this environment was made without pip"
    return [found]
