"""A time limit that begins again whenever there is progress."""

import math
import time
from collections.abc import Callable


class Patience:
    """Lasts `seconds` (None: for ever), and again as long whenever less is left than ever before.

    What comes in meanwhile is no progress, so that a wait beside a constant flow of new records ends too.
    """

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = math.inf if seconds is None else seconds
        self._clock = clock
        self._least: float = math.inf
        self._since = clock()

    def note(self, left: int) -> None:
        """Tell it how much is left now; less than ever before is progress."""
        if left < self._least:
            self._least, self._since = left, self._clock()

    @property
    def remaining(self) -> float:
        """Seconds until it is over unless there is progress; 0 when it is over."""
        return max(0.0, self._since + self.seconds - self._clock())
