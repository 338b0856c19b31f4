"""`headrace` as a user runs it against a pipeline whose processes a test has started."""

import os
import subprocess
import sys
from collections.abc import Callable

from runtime.settings import Settings
from tests.processes import PROJECT, environment_of

Headrace = Callable[..., subprocess.CompletedProcess[str]]


def headrace_of(settings: Settings, **addresses: str) -> Headrace:
    """The command for these settings. Keyword arguments are variables, here for each call, there for one."""

    def run(*arguments: str, stdin: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cli", *arguments],
            cwd=PROJECT,
            env=os.environ | environment_of(settings) | addresses | variables,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    return run
