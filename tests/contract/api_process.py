"""A second API on the contract stack, as somebody starts it by hand: with settings of its own, on a free port."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.command_line import CommandLine
from tests.processes import free_port
from tests.waiting import eventually


class ApiProcess(httpx.Client):
    """A client of it, which can read its log too."""

    log: Path

    def logged(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """The lines of its log about that event with these fields."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == event and fields.items() <= line.items()]


@contextmanager
def api_process(
    headrace: CommandLine, folder: Path, variables: Mapping[str, str], *, uvicorn: bool = False
) -> Iterator[ApiProcess]:
    """`headrace api`, or `uvicorn api.main:app`, with these variables; stopped in the end."""
    port = free_port()
    words = headrace.words("api", "--port", str(port))
    if uvicorn:
        words = [str(Path(sys.executable).with_name("uvicorn")), "api.main:app", "--port", str(port)]
    log = folder / f"api-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            words,
            env=headrace.environment() | {"LOG_FORMAT": "json", "LOG_LEVEL": "info"} | dict(variables),
            stdout=output,
            stderr=output,
        )
    try:
        with ApiProcess(base_url=f"http://127.0.0.1:{port}", timeout=90, trust_env=False) as client:
            client.log = log

            def alive() -> bool:
                assert process.poll() is None, log.read_text()
                return client.get("/livez").is_success

            eventually(alive, what="the second API answers")
            yield client
    finally:
        process.terminate()
        process.wait(timeout=30)


def environment_without(headrace: CommandLine, *names: str) -> dict[str, str]:
    """The stack's environment without variables that a test wants to come from a file."""
    return {name: value for name, value in headrace.environment().items() if name not in names}
