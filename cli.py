"""`headrace COMMAND`, from its very start: Ctrl-C ends it in one line, whatever is being loaded or done."""

import gc
import os
import signal
import sys
from io import TextIOWrapper

INTERRUPTED = 130
"""Exit code that a shell reports for a program that Ctrl-C ended."""


def main() -> None:
    """Run the command line. Imports it here, so that Ctrl-C meanwhile leaves no traceback of an import.

    Our modules come before those of PYTHONPATH, where another project may have an `api` or `commands` too.
    """
    usual = signal.getsignal(signal.SIGINT)
    heeded = usual is signal.default_int_handler  # not of a program in the background, which is to ignore it
    if heeded:
        signal.signal(signal.SIGINT, _end_at_once)
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 (pathlib takes time to load)
    _mend_streams()
    from commands.command_line import prepared

    run = prepared(sys.argv[1:])
    gc.freeze()  # what is loaded stays; to look through all of it at the end takes a fifth of a short command
    if heeded:
        signal.signal(signal.SIGINT, usual)  # asyncio's own way to cancel builds on it
    try:
        code = run()
    except KeyboardInterrupt:
        code = _interrupted()
    if heeded:
        signal.signal(signal.SIGINT, _end_at_once)
    sys.exit(code)


def _mend_streams() -> None:
    """Have what is printed go nowhere where there is no stream, and be escaped where an encoding lacks a character."""
    from commands.printable import ESCAPED

    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller: `headrace reset >&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 (to the end)
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=ESCAPED)


def _interrupted() -> int:
    print("Interrupted", file=sys.stderr)  # noqa: T201 (the console is not loaded yet)
    return INTERRUPTED


def _end_at_once(*_: object) -> None:
    """There is nothing to tidy up while modules are loaded, and extensions turn the exception into others."""
    os._exit(_interrupted())


if __name__ == "__main__":
    main()
