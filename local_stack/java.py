"""Finds a Java that is new enough, wherever a machine keeps its JDKs."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from local_stack.errors import StackError
from local_stack.log_reading import LOG_TAIL_LINES
from local_stack.server import IN_UTC

COMPILE_TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class Jdk:
    """One installed JDK (a `javac` beside its `java`)."""

    home: Path
    major: int

    def path(self, program: str) -> str:
        return str(self.home / "bin" / program)


def find_jdk(at_least: int) -> Jdk | None:
    """The first JDK of this major version or newer: JAVA_HOME, then PATH, then the usual folders, newest first."""
    return next((jdk for jdk in _installed() if jdk.major >= at_least), None)


def java_variables() -> dict[str, str]:
    """Options for every JVM, which Java itself reads, and its locale. Root's servers get no other variables.

    In the caller's locale Java may not be able to name a file (`/home/jürgen` in C), or has other letters (Turkish).
    """
    options = os.environ.get("JDK_JAVA_OPTIONS")
    named = {"LC_ALL": "C.UTF-8"} if sys.platform == "linux" else {}  # elsewhere there is none of that name
    return IN_UTC | named | ({"JDK_JAVA_OPTIONS": options} if options else {})


def compile_java(jdk: Jdk, source: Path, folder: Path, release: int) -> None:
    """Compile a launcher against the folder's jars (`lib`) into its `app`. Blocks for seconds. Raises StackError."""
    compiler = [jdk.path("javac"), "--release", str(release), "-cp", f"{folder / 'lib'}/*", "-d", str(folder / "app")]
    done = subprocess.run(
        [*compiler, str(source)],
        env=os.environ | java_variables(),
        capture_output=True,
        text=True,
        timeout=COMPILE_TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise StackError(
            f"{source.name} did not compile with {compiler[0]}.",
            log_lines=(done.stdout + done.stderr).splitlines()[:LOG_TAIL_LINES],
            remedy="Check that JDK, or set JAVA_HOME to another one.",
        )


@cache
def _installed() -> tuple[Jdk, ...]:
    preferred = [jdk for home in _named_homes() if (jdk := _inspect(home))]
    others = [jdk for home in _usual_homes() if (jdk := _inspect(home))]
    return (*preferred, *sorted(others, key=lambda jdk: -jdk.major))


def _named_homes() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home)
    if java := shutil.which("java"):
        yield Path(java).resolve().parent.parent


def _usual_homes() -> Iterator[Path]:
    yield from sorted(Path("/usr/lib/jvm").glob("*"))
    yield from sorted(Path("/opt").glob("*jdk*"))
    yield from sorted(Path.home().glob(".sdkman/candidates/java/*"))
    yield from sorted(Path("/Library/Java/JavaVirtualMachines").glob("*/Contents/Home"))
    for prefix in ("/opt/homebrew/opt", "/usr/local/opt"):
        yield from sorted(Path(prefix).glob("openjdk*/libexec/openjdk.jdk/Contents/Home"))
    if Path("/usr/libexec/java_home").exists():  # macOS; it answers with the newest
        found = subprocess.run(["/usr/libexec/java_home"], capture_output=True, text=True, check=False)
        if found.returncode == 0:
            yield Path(found.stdout.strip())


def _inspect(home: Path) -> Jdk | None:
    # macOS has a /usr/bin/java that only offers to install one, so asking javac tells a JDK from everything else.
    javac = home / "bin" / "javac"
    if not javac.is_file() or not (home / "bin" / "java").is_file():
        return None
    return Jdk(home, major) if (major := java_major(_release(home) or _said_by(javac))) else None


def _release(home: Path) -> str:
    """The line about its version in the JDK's own file, which costs nothing; empty where it has none."""
    try:
        lines = (home / "release").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith("JAVA_VERSION=")), "")


def _said_by(javac: Path) -> str:
    try:
        answer = subprocess.run([javac, "-version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout + answer.stderr


def java_major(version_line: str) -> int | None:
    """The major version in a line about it: 25 of `javac 25.0.1`, 8 of `javac 1.8.0_412`, 21 of `JAVA_VERSION="21"`."""
    found = re.search(r"(?:javac |JAVA_VERSION=\"?)(?:1\.)?(\d+)", version_line)
    return int(found[1]) if found else None
