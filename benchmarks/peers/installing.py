"""Installs the peers on demand, outside the product's environment, in a cache folder (HEADRACE_PEERS).

Each Python peer has an environment of its own with the versions of `requirements/<name>.txt`; the Java ones are
resolved by Maven and compiled. What is complete is not done twice: a folder's name ends in a digest of its recipe.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from local_stack.java import Jdk, find_jdk

HERE = Path(__file__).parent
PATIENCE_SECONDS = 1200
JAVA = 17


class NotInstalled(Exception):
    """A candidate that can't be had on this machine, with the reason."""


def peers_folder() -> Path:
    """The folder of installed peers: HEADRACE_PEERS, by default in the user's cache folder."""
    if chosen := os.environ.get("HEADRACE_PEERS"):
        return Path(chosen).absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache).absolute() / "headrace" / "peers"


def interpreter(name: str) -> Path:
    """The Python of this peer's environment. Blocking: a minute or some the first time. Raises NotInstalled."""
    recipe = HERE / "requirements" / f"{name}.txt"

    def build(folder: Path) -> None:
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--no-cache-dir", "-r", str(recipe)])

    # An environment holds its own path, so it is built where it stays.
    return _once(name, [recipe], build, moved=False) / "bin" / "python"


def java_command(name: str, main: str, *options: str) -> list[str]:
    """The words that run a Java program of `java/<name>`, compiled with the rules beside it, if it has any sources.

    Blocking the first time: a minute. Raises NotInstalled.
    """
    jdk, recipe = _jdk(), HERE / "java" / name
    own = sorted(recipe.glob("*.java"))
    sources = [*own, *sorted((HERE / "java" / "rules").glob("*.java"))] if own else []

    def build(folder: Path) -> None:
        maven = shutil.which("mvn")
        if maven is None:
            raise NotInstalled("Maven is not on PATH")
        target = f"-DoutputDirectory={folder / 'lib'}"
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", target]
        _run([maven, "-q", "-B", "-f", str(recipe / "pom.xml"), *goal])
        if sources:
            words = [jdk.path("javac"), "--release", str(JAVA), "-cp", f"{folder}/lib/*", "-d", str(folder)]
            _run([*words, *map(str, sources)])

    folder = _once(name, [recipe / "pom.xml", *sources], build)
    return [jdk.path("java"), *options, "-cp", f"{folder}:{folder}/lib/*", main]


def _jdk() -> Jdk:
    jdk = find_jdk(JAVA)
    if jdk is None:
        raise NotInstalled(f"no JDK {JAVA} or newer was found")
    return jdk


def _once(name: str, recipe: Iterable[Path], build: Callable[[Path], None], *, moved: bool = True) -> Path:
    """The finished folder, built now if it is not there."""
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in recipe)).hexdigest()[:8]
    root = peers_folder()
    folder, done = root / f"{name}-{digest}", root / f"{name}-{digest}" / ".complete"
    if done.exists():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    building = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=root)) if moved else folder
    building.mkdir(exist_ok=True)
    try:
        build(building)
        (building / ".complete").touch()
        if moved:
            building.rename(folder)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return folder


def _run(words: list[str]) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"{Path(words[0]).name} took longer than {PATIENCE_SECONDS} s") from None
    if done.returncode:
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if "ERROR" in line or "error" in line] or lines
        raise NotInstalled(f"{Path(words[0]).name}: {errors[0][:200] if errors else 'failed'}")
