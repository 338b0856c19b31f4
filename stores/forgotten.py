"""The keys that somebody had forgotten: what comes of them later is deleted before it is stored anywhere.

A key itself is not kept, but its HMAC-SHA-256 under FORGET_SECRET, which is not in Postgres: without it nobody can tell
whom a hash stands for, nor try out ids. Nor are addresses, by which a line is known of which nobody can read the key.
See decision 0057.
"""

import hmac
from collections.abc import Iterable, Sequence
from typing import Any, Self

from runtime.errors import Backpressure
from schemas.mentions import Name

# In a sink's transaction this keeps whoever changes the list (`LOCK_LIST`) waiting until its end. So what a sink stores
# was there before the key was forgotten, or the sink knows that it is.
_STATE = """
    SELECT coalesce(array_agg(DISTINCT secret) FILTER (WHERE undone_at IS NULL), '{}'), count(*), max(forgotten_at),
        max(undone_at)
    FROM forgotten"""

_HASHES = """
    WITH valid AS (SELECT hash FROM forgotten WHERE undone_at IS NULL)
    SELECT hash FROM valid UNION ALL SELECT hash FROM forgotten_addresses WHERE forgotten IN (SELECT hash FROM valid)"""

LOCK_LIST = "LOCK TABLE forgotten IN ACCESS EXCLUSIVE MODE"
"""To be held by whoever changes the list, and times are `clock_timestamp()`: they tell a reader that it has changed."""

_SEPARATOR = b"\x00"  # in no name of a dataset


def hash_of(name: Name, secret: bytes) -> str:
    """The keyed hash of a key, in hex. Pure."""
    message = name.dataset.encode() + _SEPARATOR + name.key.encode("utf-8", "surrogatepass")
    return hmac.digest(secret, message, "sha256").hex()


def secret_id(secret: bytes) -> str:
    """A name by which a secret is told from others, and which tells nothing of it. Pure."""
    return hmac.digest(secret, b"headrace", "sha256").hex()[:8]


def made_by(secret: str, secrets: Sequence[bytes]) -> int | None:
    """The place of a secret in FORGET_SECRET by its `secret_id`, 1 for the newest; None if it is not there. Pure."""
    return next((place for place, one in enumerate(secrets, 1) if secret_id(one) == secret), None)


class ForgottenKeys:
    """The list, as a sink remembers it between its transactions: to ask for each batch's keys takes far longer."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = {secret_id(secret): secret for secret in secrets}
        self._made_by: list[bytes] = []
        self._state: list[Any] = []
        self._hashes: frozenset[str] = frozenset()

    async def open(self, connection: Any) -> Self | None:
        """The list as it is in the caller's transaction; None while nobody is forgotten. Before the caller writes.

        Raises Backpressure where hashes were made with a secret that is not known: nobody could tell then who is
        forgotten.
        """
        made_by, *state = await connection.fetchrow(_STATE)
        if not made_by:
            return None
        if not self._secrets.keys() >= set(made_by):
            given = "FORGET_SECRET is another one" if self._secrets else "FORGET_SECRET is not set"
            reason = f"{given}, and the keys that were forgotten are hashed with it; set it again"
            raise Backpressure("the list of forgotten keys", reason)
        self._made_by = [self._secrets[one] for one in made_by]
        if state != self._state:
            self._hashes = frozenset([row[0] for row in await connection.fetch(_HASHES)])
            self._state = state
        return self

    def among(self, names: Iterable[Name]) -> set[Name]:
        """Those of these keys and addresses that are forgotten."""
        hashes, made_by = self._hashes, self._made_by
        return {name for name in names if any(hash_of(name, secret) in hashes for secret in made_by)}
