"""The signals by which a process of ours is told to stop."""

import asyncio
import signal
from collections.abc import Callable


def on_stop_signal(stop: Callable[[], object]) -> None:
    """Have SIGTERM and SIGINT call this, on the event loop that is running, instead of ending the process."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
