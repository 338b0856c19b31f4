"""Places where a process dies as by kill -9: for a test that starts it with `HEADRACE_CRASH_AT=rows_committed`, and for
a rehearsal that has armed the place (`rehearsals/`). Nothing without either.
"""

import os
import signal
from typing import Literal

VARIABLE = "HEADRACE_CRASH_AT"

FaultPoint = Literal[
    "failures_recorded",
    "rows_committed",
    "changes_confirmed",
    "outbox_published",
    "batch_written",
    "outputs_produced",
    "batch_sent",
    "forgetting_begun",
    "forgetting_texts_erased",
]
"""After the Postgres commit: before the originals of what was refused are read, before the change events, and between
these and the offset commit; after the broker has confirmed what the outbox held and before it is taken out.

Of any sink, in its store and not committed; of the normalizer, produced and not confirmed; of a run, half published.

Of `headrace forget`, once nothing of the key is stored any more, and once only rows are left to delete.
"""


def crash_here(point: FaultPoint) -> None:
    """Die at once if this point was asked for when the process was started, or has been armed."""
    if point in _armed:
        os.kill(os.getpid(), signal.SIGKILL)


def arm(point: FaultPoint) -> None:
    """Let this process die when it next comes to that point."""
    _armed.add(point)


_armed: set[str] = {asked} if (asked := os.environ.get(VARIABLE)) else set()
