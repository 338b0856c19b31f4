"""Starting the API is cheap: it loads what serving needs, and no more."""

import subprocess
import sys

UNNEEDED = {
    "obstore": "exports",
    "faust": "workers",
    "aiokafka": "workers, and whoever looks into holes or ends memberships",
    "feedparser": "the process that reads feeds",
    "phonenumbers": "telephone numbers that are normalized",
    "jwt": "tokens, where there is an issuer of them",
}
"""Modules that others load, and who."""


def test_importing_the_api_loads_no_module_that_serving_does_not_need() -> None:
    code = f"import sys, api.main; print(*sorted({set(UNNEEDED)} & sys.modules.keys()))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []
