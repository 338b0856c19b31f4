"""${NAME} in a file of settings: secrets and addresses come from the environment or `.env`, not from the file."""

import re
from collections.abc import Callable
from typing import Any

from runtime.settings import ENV_FILE

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_LIKE_ONE = re.compile(rf"{VARIABLE.pattern}|\$\{{")
"""`${MY-NAME}` and `${NAME:-default}` too: taken for texts, they would be secrets that everybody can read."""
_NO_REFERENCE = (
    "what begins with ${ must be ${NAME}: letters, digits and _ only, and no default (:-); a text with ${ in it goes "
    "into a variable"
)


def expanded(value: Any, variable: Callable[[str], str | None], where: str = "") -> Any:
    """`value` with every ${NAME} in its strings replaced.

    Raises LookupError for a name that is not set, and for `${` before anything else than a name and `}`.
    """
    if isinstance(value, dict):
        return {k: expanded(v, variable, f"{where}.{k}" if where else k) for k, v in value.items()}
    if isinstance(value, list):
        return [expanded(item, variable, where) for item in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        # The rest of the value may be a secret itself.
        if not match[1]:
            raise LookupError(f"{where}: {_NO_REFERENCE}")
        found = variable(match[1])
        if found is None:
            raise LookupError(f"{where}: {match[1]} is not set; set it in the environment or in {ENV_FILE}")
        return found

    return _LIKE_ONE.sub(replace, value)
