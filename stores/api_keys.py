"""API keys in Postgres: who may ask the API for what. The keys themselves are not there, only their digests."""

import datetime
import hashlib
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from runtime.errors import Explained
from runtime.scopes import SCOPES, Scope

PREFIX = "hr_"
"""Every key begins so, and is known by it where one has been published by mistake."""

SECRET_BYTES = 32

_OURS = re.compile(r"hr_[0-9a-f]{12}_[A-Za-z0-9_-]{43}")

LISTED_DAYS = 30
"""A key that ended is told apart from an unknown one for so long, by those who hold it."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept. `id` is its public part; times are UTC, None where there is none."""

    id: str
    name: str
    digest: bytes
    scopes: frozenset[Scope]
    created_at: datetime.datetime
    expires_at: datetime.datetime | None
    revoked_at: datetime.datetime | None
    last_used_at: datetime.datetime | None

    @property
    def state(self) -> str:
        """`valid`, `expired` or `revoked`, by the clock of this machine."""
        if self.revoked_at is not None:
            return "revoked"
        now = datetime.datetime.now(datetime.UTC)
        return "expired" if self.expires_at is not None and self.expires_at <= now else "valid"


class KeyNotThere(Explained):
    """No valid key has that id or name."""

    def __init__(self, named: str) -> None:
        super().__init__(f"no valid key has the id or the name {named!r}; `headrace keys list` shows all")


class NotTaken(Explained):
    """A key that was made elsewhere cannot be kept: its form is another one, or its id is taken."""


class NameTaken(Explained):
    """A valid key has that name."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"a valid key is called {name!r}; `headrace keys rotate {name}` makes a new one in its place, "
            "and `headrace keys list` shows all"
        )


def digest_of(key: str) -> bytes:
    """The digest by which a key is known. Pure.

    SHA-256 once, not a slow hash: those are for passwords, which can be guessed. A key's secret is 256 random bits.
    """
    return hashlib.sha256(key.encode()).digest()


def id_of(key: str) -> str | None:
    """The public part of `hr_<id>_<secret>`; None for what has another form. Pure."""
    if not key.startswith(PREFIX):
        return None
    key_id, _, secret = key[len(PREFIX) :].partition("_")
    return key_id if key_id and secret else None


_COLUMNS = "id, name, digest, scopes, created_at, expires_at, revoked_at, last_used_at"

_READ = text(f"""
    SELECT {_COLUMNS} FROM api_keys
    WHERE coalesce(revoked_at, 'infinity') > now() - make_interval(days => {LISTED_DAYS})
        AND coalesce(expires_at, 'infinity') > now() - make_interval(days => {LISTED_DAYS})""")  # noqa: S608 (a number)

_ALL = text(f"SELECT {_COLUMNS} FROM api_keys ORDER BY created_at, id")  # noqa: S608 (names of columns)

_VALID = "revoked_at IS NULL AND coalesce(expires_at, 'infinity') > now()"

_NAMED = text(f"SELECT {_COLUMNS} FROM api_keys WHERE name = :name AND {_VALID}")  # noqa: S608 (no value)

_INSERT = text(f"""
    INSERT INTO api_keys (id, name, digest, scopes, expires_at)
    VALUES (:id, :name, :digest, CAST(:scopes AS text[]), :expires_at) RETURNING {_COLUMNS}""")  # noqa: S608

_KEEP = text(f"""
    INSERT INTO api_keys (id, name, digest, scopes, expires_at)
    VALUES (:id, :name, :digest, CAST(:scopes AS text[]), :expires_at)
    ON CONFLICT (id) DO UPDATE SET name = excluded.name, scopes = excluded.scopes, expires_at = excluded.expires_at
        WHERE api_keys.digest = excluded.digest AND api_keys.revoked_at IS NULL
    RETURNING {_COLUMNS}""")  # noqa: S608 (names of columns)

_REVOKE = text(f"""
    UPDATE api_keys SET revoked_at = now() WHERE (id = :named OR name = :named) AND {_VALID}
    RETURNING {_COLUMNS}""")  # noqa: S608 (no value)

_END = text(f"""
    UPDATE api_keys SET expires_at = least(expires_at, :at) WHERE name = :name AND {_VALID}""")  # noqa: S608

_USED = text("""
    UPDATE api_keys SET last_used_at = greatest(last_used_at, to_timestamp(:at)) WHERE id = :id""")


async def read_keys(connection: AsyncConnection, *, every: bool = False) -> list[ApiKey]:
    """The keys, oldest first; without `every` those that ended over LISTED_DAYS ago are left out."""
    return [_key(row) for row in await connection.execute(_ALL if every else _READ)]


async def create_key(
    connection: AsyncConnection, name: str, scopes: Collection[Scope], expires_at: datetime.datetime | None
) -> tuple[ApiKey, str]:
    """A new key, and its text, which is kept nowhere. In the caller's transaction. Raises NameTaken."""
    if (await connection.execute(_NAMED, {"name": name})).first():
        raise NameTaken(name)
    return await _insert(connection, name, scopes, expires_at)


async def keep_key(
    connection: AsyncConnection, name: str, key: str, scopes: Collection[Scope], expires_at: datetime.datetime | None
) -> ApiKey:
    """Keep a key that was made elsewhere, such as one in a cluster's secret. Idempotent; scopes and end may change.

    Raises NotTaken for another form than ours, and for an id that another or a revoked key has; and NameTaken.
    """
    if not _OURS.fullmatch(key):
        raise NotTaken("the key has another form than hr_<12 hexadecimal digits>_<43 letters, digits, - or _>")
    named = (await connection.execute(_NAMED, {"name": name})).all()
    if any(row.digest != digest_of(key) for row in named):
        raise NameTaken(name)
    row = (await connection.execute(_KEEP, _values(name, key, scopes, expires_at))).first()
    if row is None:
        raise NotTaken(f"another key, or a revoked one, has the id {id_of(key)}")
    return _key(row)


async def rotate_key(
    connection: AsyncConnection, name: str, old_ends: datetime.datetime, expires_at: datetime.datetime | None
) -> tuple[ApiKey, str]:
    """A new key with the name and the scopes of the newest that has it; all that have it end at `old_ends`.

    Without `expires_at` it lives as long as that one was made for. Raises KeyNotThere.
    """
    old = [_key(row) for row in await connection.execute(_NAMED, {"name": name})]
    if not old:
        raise KeyNotThere(name)
    newest = max(old, key=lambda key: key.created_at)
    if expires_at is None and newest.expires_at is not None:
        expires_at = datetime.datetime.now(datetime.UTC) + (newest.expires_at - newest.created_at)
    await connection.execute(_END, {"name": name, "at": old_ends})
    return await _insert(connection, name, newest.scopes, expires_at)


async def revoke_keys(connection: AsyncConnection, named: str) -> list[ApiKey]:
    """Revoke the valid key of that id, or all of that name. Raises KeyNotThere."""
    revoked = [_key(row) for row in await connection.execute(_REVOKE, {"named": named})]
    if not revoked:
        raise KeyNotThere(named)
    return revoked


async def note_uses(connection: AsyncConnection, uses: Mapping[str, float]) -> None:
    """Keep when keys were used last: by id, in seconds since the epoch. Idempotent."""
    if uses:
        await connection.execute(_USED, [{"id": key_id, "at": at} for key_id, at in sorted(uses.items())])


async def _insert(
    connection: AsyncConnection, name: str, scopes: Collection[Scope], expires_at: datetime.datetime | None
) -> tuple[ApiKey, str]:
    key = f"{PREFIX}{secrets.token_hex(6)}_{secrets.token_urlsafe(SECRET_BYTES)}"
    return _key((await connection.execute(_INSERT, _values(name, key, scopes, expires_at))).one()), key


def _values(name: str, key: str, scopes: Collection[Scope], expires_at: datetime.datetime | None) -> dict[str, Any]:
    about = {"id": id_of(key), "digest": digest_of(key)}
    return about | {"name": name, "scopes": sorted(scopes), "expires_at": expires_at}


def _key(row: Any) -> ApiKey:
    # Of a newer version there may be scopes that this one does not know: it grants none for them.
    scopes = frozenset(Scope(name) for name in row.scopes if name in SCOPES)
    return ApiKey(**{**row._asdict(), "scopes": scopes})
