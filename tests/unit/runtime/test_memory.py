"""How many heaps the threads of a process have."""

import platform
import subprocess
import sys

import pytest

from runtime.memory import ARENAS

HEAPS = """
import ctypes, sys, threading
from runtime.memory import share_memory_among_threads

if sys.argv[1] == "shared":
    share_memory_among_threads()
libc, together = ctypes.CDLL(None), threading.Barrier(8)
libc.malloc.restype = ctypes.c_void_p

def work():
    together.wait()
    libc.malloc(1_000)
    together.wait()

threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


@pytest.mark.parametrize("shared", [True, False])
def test_the_threads_of_a_process_share_heaps_once_it_says_so(shared: bool) -> None:
    if platform.libc_ver()[0] != "glibc":
        return
    command = [sys.executable, "-c", HEAPS, "shared" if shared else "apart"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    heaps = said.count("<heap nr=")
    assert heaps <= ARENAS if shared else heaps > ARENAS
