"""Resolves the Java servers from the configured Maven repository, once, into a cache outside the state folder.

A resolved folder is complete or absent: it is built beside its final place and renamed there, under a lock, so two
stacks that start at once resolve it once. Its name ends in a digest of what it was built from, so a changed recipe is
another folder and a running stack keeps its own.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from local_stack.errors import StackError
from local_stack.java import Jdk, java_variables
from local_stack.log_reading import LOG_TAIL_LINES
from local_stack.state_folder import require_space
from local_stack.unprivileged import reachable

ARTIFACTS = Path(__file__).parent / "artifacts"

RESOLVE_TIMEOUT_SECONDS = 900
"""A cold resolve takes under a minute; a repository that trickles for a quarter of an hour is broken."""


@dataclass(frozen=True)
class JavaServer:
    """A JDK, and the folder of a server with its jars in `lib`."""

    jdk: Jdk
    folder: Path


def servers_folder() -> Path:
    """The folder of resolved servers: HEADRACE_SERVERS, by default in the user's cache folder."""
    if chosen := os.environ.get("HEADRACE_SERVERS"):
        return Path(chosen).absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache).absolute() / "headrace" / "servers"


def resolve(recipe: Path, jdk: Jdk, lay_out: Callable[[Path], object]) -> JavaServer:
    """The server of this folder, which has its pom.xml and is called like it, where the servers' user can run it.

    Resolved now if it is not there yet. Blocking: a minute at first, instant afterwards. `lay_out` finishes the folder
    (in its temporary place). Raises StackError when Maven is missing or fails.
    """
    root = servers_folder()
    folder = root / _folder_name(recipe)
    if not folder.is_dir():
        require_space(root)
        root.mkdir(parents=True, exist_ok=True)
        with (root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():  # otherwise somebody else resolved it while we waited
                _build(recipe, jdk, lay_out, folder)
    return JavaServer(Jdk(reachable(jdk.home), jdk.major), reachable(folder))


def version_of(recipe: Path) -> str:
    """The server's version, from its pom."""
    found = re.search(r"<server\.version>(.+?)</server\.version>", (recipe / "pom.xml").read_text())
    if not found:
        raise ValueError(f"{recipe}/pom.xml has no server.version property")
    return found[1]


def _folder_name(recipe: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(recipe.iterdir()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return f"{recipe.name}-{version_of(recipe)}-{digest.hexdigest()[:8]}"


def _build(recipe: Path, jdk: Jdk, lay_out: Callable[[Path], object], folder: Path) -> None:
    building = Path(tempfile.mkdtemp(prefix=f".{recipe.name}-", dir=folder.parent))
    try:
        _copy_dependencies(recipe, jdk, building / "lib")
        lay_out(building)
        building.chmod(0o755)
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _copy_dependencies(recipe: Path, jdk: Jdk, target: Path) -> None:
    server = f"{recipe.name} {version_of(recipe)}"
    maven = shutil.which("mvn")
    if maven is None:
        raise StackError(
            f"Maven (`mvn`) is not on PATH; {server} is resolved with it.",
            remedy="Install Maven (Debian/Ubuntu: apt install maven; macOS: brew install maven) and run this again.",
        )
    command = [maven, "-q", "-B", "-f", str(recipe / "pom.xml"), "dependency:copy-dependencies"]
    options = ["-DincludeScope=runtime", f"-DoutputDirectory={target}"]
    try:
        done = subprocess.run(
            [*command, *options],
            env=os.environ | java_variables() | {"JAVA_HOME": str(jdk.home)},  # the caller's may be none
            capture_output=True,
            text=True,
            timeout=RESOLVE_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StackError(
            f"Maven did not resolve {server} within {RESOLVE_TIMEOUT_SECONDS} s.",
            remedy="Check the network and Maven's settings.xml, then run this again; what was fetched is kept.",
        ) from error
    if done.returncode != 0 or not any(target.glob("*.jar")):
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise StackError(
            f"Maven could not resolve {server} (exit code {done.returncode}).",
            log_lines=lines[:LOG_TAIL_LINES],
            remedy="Check the network and Maven's settings.xml (mirror, proxy), then run this again.",
        )
