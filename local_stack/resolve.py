"""Finds or resolves every server's program: what `make build` does beforehand, so that `make up` need not.

`python -m local_stack.resolve`
"""

import sys

from rich.console import Console

from local_stack.errors import StackError
from local_stack.installations import find_installations


def main() -> int:
    """Resolve all servers; the exit code. Blocking: a minute the first time."""
    console = Console(highlight=False)
    try:
        found = find_installations(starting=lambda name: console.print(f"finding {name} …"))
    except StackError as error:
        Console(stderr=True, highlight=False).print(f"Error: {error}", markup=False)
        return 1
    if found.without_elasticsearch:
        console.print(f"No Elasticsearch ({found.without_elasticsearch}): search will answer from Postgres.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
