"""One line for what stops a command from outside: a server that does not answer, a file that cannot be read."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from commands.output import fail, waiting_for
from runtime.errors import Explained
from schemas.errors import BrokenDataset

ADDRESSES = {
    "Postgres": "database_url",
    "Kafka": "kafka_bootstrap_servers",
    "Elasticsearch": "elasticsearch_url",
    "Redis": "redis_url",
}
"""The setting with each store's address."""

STORES = {
    "sqlalchemy": "Postgres",
    "asyncpg": "Postgres",
    "cimpl": "Kafka",
    "aiokafka": "Kafka",
    "elastic_transport": "Elasticsearch",
    "redis": "Redis",
}
"""Whose clients they are: the packages of their exceptions, which need not be loaded to be known."""


MISSING_RIGHT = "42501"
"""Postgres' code where its user may not do what it was asked."""


@contextmanager
def answered_by(store: str, remark: str = "", *, soon: bool = True) -> Iterator[None]:
    """End the command in a line if the store does not answer. What is to be there `soon` is told once it is late."""
    with waiting_for(f"{at(store)}{remark}") if soon else nullcontext():
        try:
            yield
        except Exception as error:
            if (isinstance(error, OSError) and not error.filename) or _store(error):
                fail(no_answer(_store(error) or store, error))
            raise


def in_a_line(error: BaseException) -> str | None:
    """The error that stopped a command, in a line; None for a mistake of ours, of which the traceback tells more."""
    if isinstance(error, Explained | BrokenDataset):
        return str(error)
    store = _store(error)
    if store is not None:
        return no_answer(store, error)
    if isinstance(error, OSError):
        named = f"{error.filename}: " if error.filename else ""
        return f"{named}{error.strerror or error or type(error).__name__}"
    return None


def no_answer(store: str, error: BaseException) -> str:
    """The message that a store does not answer or refuses: its address, its words, and a remedy."""
    code = getattr(getattr(error, "orig", error), "sqlstate", None)
    if code == MISSING_RIGHT:
        from stores.outages import GRANTED  # here, since its client takes long to load

        return f"{at(store)} says: {first_line(error)}; {ADDRESSES[store].upper()} names another user; {GRANTED}"
    said = "says" if code else "does not answer"
    tables = ", `headrace setup` makes its tables" if store == "Postgres" else ""
    return (
        f"{at(store)} {said}: {first_line(error)}; `headrace status` says what is down, `headrace up` starts "
        f"a stack{tables}, {ADDRESSES[store].upper()} names another server"
    )


def at(store: str) -> str:
    """A store and its address, without the password. Raises SettingsError."""
    from runtime.server_addresses import redacted  # here, since it takes 0.2 s and is seldom wanted
    from runtime.settings import load_settings

    address = getattr(load_settings(), ADDRESSES[store])
    return f"{store} at {redacted(address if isinstance(address, str) else address.get_secret_value())}"


def _store(error: BaseException) -> str | None:
    """Whose client's error it is, or is made of; None for all others."""
    packages = (kind.__module__.partition(".")[0] for kind in type(error).__mro__)
    return next((STORES[package] for package in packages if package in STORES), None)


def first_line(error: BaseException) -> str:
    """The first line of a client's message, without its class."""
    cause = getattr(error, "orig", None) or error
    inner = cause.args[0] if getattr(cause, "args", None) else None
    text = inner.str() if inner is not None and hasattr(inner, "str") else cause  # Kafka's
    return str(text).partition("\n")[0].rpartition(">: ")[2] or type(error).__name__
