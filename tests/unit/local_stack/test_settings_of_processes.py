"""`headrace up` restarts our processes when what they run has changed."""

import tomllib

from local_stack.programs import PROJECT
from local_stack.settings_of_processes import _PACKAGES

NOT_RUN = {"data", "local_stack"}


def test_the_fingerprint_covers_every_package_that_our_processes_run() -> None:
    wheel = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(_PACKAGES) == set(wheel["packages"]) - NOT_RUN
