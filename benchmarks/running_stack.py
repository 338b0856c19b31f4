"""The running stack as a benchmark sees it: what each of its processes costs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import psutil

from local_stack.processes import examine
from local_stack.state_folder import StateFolder
from runtime.settings import Settings

SAMPLE_SECONDS = 0.5


class Cost(NamedTuple):
    """CPU seconds of a process and its children, and the most memory in bytes that it took at a time."""

    cpu_seconds: float
    peak_bytes: int


@contextmanager
def measured(settings: Settings) -> Iterator[dict[str, Cost]]:
    """The cost of every process of the running stack while the block runs; filled when it ends.

    Raises LookupError when nothing runs. Memory is sampled twice a second; a child that ended counts with its parent.
    """
    processes = {row.name: psutil.Process(row.pid) for row in examine(StateFolder.at(settings.home)) if row.pid}
    if not processes:
        raise LookupError(f"no stack runs in {settings.home}; start one: headrace up --no-ingest")
    before = {name: cpu_seconds(process) for name, process in processes.items()}
    peaks = dict.fromkeys(processes, 0)
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            for name, process in processes.items():
                peaks[name] = max(peaks[name], memory(process))

    sampling = threading.Thread(target=sample)
    sampling.start()
    costs: dict[str, Cost] = {}
    try:
        yield costs
        for name, process in processes.items():
            costs[name] = Cost(cpu_seconds(process) - before[name], max(peaks[name], memory(process)))
    finally:
        ended.set()
        sampling.join()


def cpu_seconds(process: psutil.Process) -> float:
    """CPU seconds of the process and its children so far, those that have ended included."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            total += sum(one.cpu_times()[:2])
    return total + sum(process.cpu_times()[2:4])


def memory(process: psutil.Process) -> int:
    """Memory of the process, and what its children do not share with it: Postgres is many that share most of theirs."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        total = process.memory_info().rss
        for child in process.children(recursive=True):
            memory = child.memory_info()
            total += memory.rss - getattr(memory, "shared", 0)
    return total
