"""${NAME} in a file of settings: secrets and addresses come from the environment or `.env`, not from the file."""

import re
from collections.abc import Callable
from typing import Any

from runtime.settings import ENV_FILE

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def expanded(value: Any, variable: Callable[[str], str | None], where: str = "") -> Any:
    """`value` with every ${NAME} in its strings replaced. Raises LookupError for a name that is not set."""
    if isinstance(value, dict):
        return {k: expanded(v, variable, f"{where}.{k}" if where else k) for k, v in value.items()}
    if isinstance(value, list):
        return [expanded(item, variable, where) for item in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        found = variable(match[1])
        if found is None:
            # The rest of the value may be a secret itself.
            raise LookupError(f"{where}: {match[1]} is not set; set it in the environment or in {ENV_FILE}")
        return found

    return VARIABLE.sub(replace, value)
