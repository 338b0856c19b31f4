"""The browser of the tests: the machine's own Chromium."""

import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> str:
    """Its path. Fails the test where none is on PATH."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    assert found, f"none of {', '.join(NAMES)} is on PATH; Debian and Ubuntu: apt-get install chromium"
    return found
