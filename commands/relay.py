"""`headrace relay`: publishes what the API has written."""

from runtime.logging import configure_logging
from runtime.settings import load_settings
from runtime.tracing import start_tracing
from sinks.lifecycle import run_until_signal
from sinks.outbox_relay import NAME, OutboxRelay


def relay() -> None:
    """Publish the change events of rows that the API has written, until stopped; `headrace up` runs one of these.

    SIGTERM drains what is in hand and exits 0. Several may run: one works, the others stand by for its end.

    Example:

      HEALTH_PORT=8107 headrace relay
    """
    settings = load_settings()
    configure_logging(settings, NAME)
    start_tracing(settings, NAME)
    working = OutboxRelay(settings)
    run_until_signal(working.run, working.stop, working.health, settings, NAME)
