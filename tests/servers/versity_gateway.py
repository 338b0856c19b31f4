"""A real S3 server for the tests: Versity's gateway over a folder, built once by Go into the servers' cache.

https://github.com/versity/versitygw, Apache-2.0: signatures, multipart uploads and errors as S3 has them.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import httpx

from local_stack.errors import StackError
from local_stack.log_reading import LOG_TAIL_LINES
from local_stack.maven import servers_folder

MODULE = "github.com/versity/versitygw/cmd/versitygw"
VERSION = "v1.8.0"
BUILD_TIMEOUT_SECONDS = 900
"""Two and a half minutes on two cores with nothing in Go's caches."""

ACCESS_KEY, SECRET_KEY = "headrace-tests", "only-for-tests-on-loopback"


@dataclass(frozen=True)
class VersityGateway:
    """An S3 server; implements local_stack.server.Server."""

    program: Path
    data: Path
    port: int

    name = "versitygw"
    stop_signal = "TERM"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def buckets(self) -> Path:
        """A folder per bucket; what the server has in hand, such as parts of an unfinished upload, in `.sgwtmp`."""
        return self.data / "buckets"

    def prepare(self) -> None:
        for folder in (self.buckets, self.data / "metadata"):
            folder.mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        # Metadata aside, because not every file system has the extended attributes that they would go into.
        backend = ["posix", "--sidecar", str(self.data / "metadata"), str(self.buckets)]
        return [str(self.program), "--port", f"127.0.0.1:{self.port}", *backend]

    def environment(self) -> dict[str, str]:
        return {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}

    def addresses(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
        }

    def problem(self) -> str | None:
        try:
            answer = httpx.get(self.url, timeout=2.5, trust_env=False)
        except httpx.HTTPError as error:
            return f"does not answer: {error}"
        # Who says nothing of himself is refused, by S3's own error document.
        return None if answer.status_code == 403 and b"AccessDenied" in answer.content else f"answers {answer}"


def find_versity_gateway() -> Path:
    """The program, built now if it is not in the cache yet. Blocking: minutes at first, instant afterwards.

    Raises StackError when Go is missing or cannot build it.
    """
    root = servers_folder()
    program = root / f"versitygw-{VERSION}" / "versitygw"
    if program.exists():
        return program
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".versitygw.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():  # otherwise somebody else has built it meanwhile
            with tempfile.TemporaryDirectory(prefix=".versitygw-", dir=root) as building:
                _build(Path(building))
                program.parent.mkdir(exist_ok=True)
                Path(building, "versitygw").rename(program)
    return program


def _build(target: Path) -> None:
    go = shutil.which("go")
    if go is None:
        raise StackError(
            f"Go is not on PATH; the tests build their S3 server with it ({MODULE} {VERSION}).",
            remedy="Install Go (Debian/Ubuntu: apt install golang; macOS: brew install go) and run this again.",
        )
    environment = os.environ | {"GOBIN": str(target), "CGO_ENABLED": "0"}
    command = [go, "install", f"{MODULE}@{VERSION}"]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=BUILD_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise StackError(
            f"Go did not build {MODULE} within {BUILD_TIMEOUT_SECONDS} s.",
            remedy="What was fetched is kept: try again.",
        ) from error
    if done.returncode != 0:
        raise StackError(
            f"Go could not build {MODULE} {VERSION} (exit code {done.returncode}).",
            log_lines=done.stderr.splitlines()[-LOG_TAIL_LINES:],
            remedy="Check the network and Go's settings (`go env GOPROXY`), then run this again.",
        )
