"""Leaves a store alone for a moment after it failed, so that not every request waits for its timeout."""

import time
from collections.abc import Callable

import structlog

log = structlog.get_logger()

PAUSE_SECONDS = 1.0


class Breaker:
    """Remembers whether a store answers. Logs once per change. `clock` counts seconds."""

    def __init__(self, store: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._retry_at: float | None = None

    @property
    def closed(self) -> bool:
        """Whether the store may be asked now."""
        return self._retry_at is None or self._clock() >= self._retry_at

    def failed(self, error: BaseException) -> None:
        """It did not answer: ask again after PAUSE_SECONDS at the earliest."""
        if self._retry_at is None:
            log.warning("store_lost", store=self._store, reason=str(error) or type(error).__name__)
        self._retry_at = self._clock() + PAUSE_SECONDS

    def succeeded(self) -> None:
        """It answered."""
        if self._retry_at is not None:
            log.info("store_back", store=self._store)
            self._retry_at = None
