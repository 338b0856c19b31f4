"""Verdicts on trouble that is not the record's fault. (A record's own fault is `schemas.errors.InvalidRecord`.)"""


class Backpressure(Exception):
    """A store is down or overloaded: hold the batch, keep the place in the group, and try again.

    `store` names it; `reason` is what it said.
    """

    state = "waiting_for_store"
    """The `state` in /health of a stage that is held up by this."""

    patience_seconds = 5.0
    """Seconds for which it may last (a restart, a failover) before the stage calls itself unhealthy."""

    longest_wait_seconds = 5.0
    """Longest pause between two tries."""

    def __init__(self, store: str, reason: str) -> None:
        super().__init__(f"{store}: {reason}")
        self.store = store
        self.reason = reason


class Explained(Exception):
    """Trouble whose message is meant for users: it names the thing, what is wrong with it, and the way out."""


class DeliveryFailed(Explained):
    """The broker did not confirm a record; nothing that depends on it may be acknowledged."""


class SettingsError(Explained):
    """One or more settings are wrong; the message names each variable, its value and what is expected."""
