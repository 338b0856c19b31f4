"""Finds or resolves every server's program: what `make build` does beforehand, so that `make up` need not.

`python -m local_stack.resolve`
"""

import sys

from rich.console import Console

from local_stack.errors import StackError
from local_stack.installations import INSTEAD, find_installations

REMEDIES = {
    "redis": "apt install redis-server (Debian, Ubuntu), brew install valkey (macOS).",
    "elasticsearch": "install a JDK 21 or newer, or set JAVA_HOME.",
}


def main() -> int:
    """Resolve all servers; the exit code. Blocking: a minute the first time."""
    console = Console(highlight=False)
    try:
        found = find_installations(starting=lambda name: console.print(f"finding {name} …"))
    except StackError as error:
        Console(stderr=True, highlight=False).print(f"Error: {error}", markup=False)
        return 1
    if found.redis:
        console.print(f"found {found.redis}", markup=False)
    for server, why in found.without.items():
        console.print(f"No {server}: {why}. So {INSTEAD[server]}. To have one: {REMEDIES[server]}", markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
