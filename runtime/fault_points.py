"""Places where a test makes a process die as by kill -9: `HEADRACE_CRASH_AT=rows_committed`. Nothing without it."""

import os
import signal
from typing import Literal

VARIABLE = "HEADRACE_CRASH_AT"

FaultPoint = Literal["rows_committed", "changes_confirmed", "outbox_published"]
"""After the Postgres commit and before the change events; after these and before the offsets are committed; after the
broker has confirmed what the outbox held and before it is taken out."""


def crash_here(point: FaultPoint) -> None:
    """Die at once if this point was asked for when the process was started."""
    if point == _CRASH_AT:
        os.kill(os.getpid(), signal.SIGKILL)


_CRASH_AT = os.environ.get(VARIABLE)
