"""Not yet."""

from dashboard.live import Live


def install(live: Live) -> None:
    """Give the page its URL."""
