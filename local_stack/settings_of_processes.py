"""Keeps the variables that our processes read in the state folder, and tells which have changed since.

A supervised process inherits the environment of the supervisor, which is that of the `headrace up` that started it.
So that a restart sees the variables of its own caller, they are written down, and a process takes them over when it
starts. Then it writes down what it starts with, so that `up` and `status` know who runs something older.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from local_stack.programs import PROJECT, Instance
from local_stack.state_folder import StateFolder, write_atomically
from runtime.expansion import VARIABLE
from runtime.settings import Settings, read_variables

OF_THE_STACK = frozenset({
    "HEADRACE_HOME", "HEADRACE_STACK", "DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL", "ELASTICSEARCH_URL",
    "API_URL", "MOCK_URL", "DASHBOARD_URL", "API_PORT", "MOCK_PORT", "DASHBOARD_PORT", "WORKER_ID",
    "HEALTH_PORT",
})  # fmt: skip
"""Variables that the stack itself sets, whatever its caller's environment says."""

CODE = "the code"
DATASETS = "the datasets"

READERS: dict[str, frozenset[str]] = {
    "MOCK_BIND": frozenset({"mock-server"}),
    "MOCK_REQUIRE_API_KEY": frozenset({"mock-server"}),
    "API_BIND": frozenset({"api"}),
    "API_ACCESS": frozenset({"api"}),
    "API_PUBLISHED_ON": frozenset({"api"}),
    "OIDC_ISSUER": frozenset({"api"}),
    "OIDC_AUDIENCE": frozenset({"api"}),
    "OIDC_JWKS_URL": frozenset({"api"}),
    "OIDC_SCOPES_CLAIM": frozenset({"api"}),
    "OIDC_SCOPES": frozenset({"api"}),
    "HEADRACE_API_KEY": frozenset({"dashboard"}),
    "DASHBOARD_BIND": frozenset({"dashboard"}),
    "DASHBOARD_HOSTS": frozenset({"dashboard"}),
    "API_READS_PER_MINUTE": frozenset({"api"}),
    "API_CHANGES_PER_MINUTE": frozenset({"api"}),
    "API_EXPENSIVE_PER_MINUTE": frozenset({"api"}),
    "API_EXPENSIVE_AT_ONCE": frozenset({"api"}),
    "API_CONNECTIONS": frozenset({"api"}),
    "API_IDLE_SECONDS": frozenset({"api"}),
    "API_TLS_CERTIFICATE_FILE": frozenset({"api"}),
    "API_TLS_KEY_FILE": frozenset({"api"}),
    "TRUSTED_PROXIES": frozenset({"api"}),
    "CORS_ORIGINS": frozenset({"api"}),
    "ALLOWED_HOSTS": frozenset({"api"}),
    "DATABASE_POOL_MIN": frozenset({"api"}),
    "DATABASE_POOL_MAX": frozenset({"api"}),
    "INGEST_TIMEOUT_SECONDS": frozenset({"api"}),
    "WATCHDOG_STALL_SECONDS": frozenset({"watchdog"}),
    "ETL_INTERVAL": frozenset({"scheduler"}),
    "ALARMS_FILE": frozenset({"monitor"}),
    "LAG_HISTORY_HOURS": frozenset({"monitor"}),
    "PRIVATE_HOSTS": frozenset({"api", "scheduler", "monitor"}),
    "EGRESS_PROXY": frozenset({"api", "scheduler", "monitor"}),
    "PERSONAL_DATA": frozenset({"api"}),
    "FORGET_SECRET": frozenset({"sink-postgres", "sink-landing"}),
    **dict.fromkeys(
        ("LANDING_RETENTION_DAYS", "FAILURE_RETENTION_DAYS", "RUN_RETENTION_DAYS", "DRIFT_RETENTION_DAYS"),
        frozenset({"scheduler"}),
    ),
}
"""Roles that read a variable, where not all may."""

SOURCE_READERS = frozenset({"api", "scheduler"})
"""Roles that read what only blocks of sources.toml refer to. The file itself they read again when it changes."""

_PACKAGES = (
    "api", "commands", "dashboard", "exports", "mock_server", "monitoring", "producers", "rehearsals", "runtime",
    "schemas", "services", "sinks", "stores", "stream_processors",
)  # fmt: skip
"""Packages that our processes run."""

_SETTINGS = frozenset(name.upper() for name in Settings.model_fields) - OF_THE_STACK


def write_variables(state: StateFolder, folder: Path) -> None:
    """Keep what processes that start from now on take over from the environment of this command. Mode 0600.

    `folder` is the one in which they run.
    """
    names = sorted(_SETTINGS | referred_to(folder))
    write_atomically(_file(state.home), json.dumps({name: os.environ.get(name) for name in names}, indent=2) + "\n")


def adopt_variables() -> None:
    """Take over the kept variables in a process that a supervisor of ours has started; elsewhere do nothing."""
    if "HEADRACE_PROGRAM" not in os.environ:
        return
    try:
        kept = json.loads(_file(Path(os.environ["HEADRACE_HOME"])).read_text(encoding="utf-8"))
    except (KeyError, OSError, ValueError):
        return
    for name, value in kept.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def note_start() -> None:
    """Write down with which settings and code a process starts that a supervisor of ours has started; else do nothing.

    A folder that cannot be written is no reason not to start: the process then counts as outdated.
    """
    program = os.environ.get("HEADRACE_PROGRAM")
    if program is None or "HEADRACE_HOME" not in os.environ:
        return
    with suppress(OSError):
        file = _started(Path(os.environ["HEADRACE_HOME"]), program)
        file.parent.mkdir(exist_ok=True)
        write_atomically(file, json.dumps(fingerprint(Path())))


def outdated(home: Path, instances: Sequence[Instance], now: Mapping[str, str]) -> dict[str, list[str]]:
    """By process, what has changed since it started that it reads. Those that run what is there now are left out."""
    found = {}
    for one in instances:
        try:
            before = json.loads(_started(home, one.name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            before = {}
        if names := [name for name in changed(before, now) if concerned([name], [one])]:
            found[one.name] = names
    return found


def fingerprint(folder: Path) -> dict[str, str]:
    """A digest of each variable that is set, and of the code, as processes that start now in that folder see them."""
    variables = read_variables(folder)
    names = variables.keys() & (_SETTINGS | referred_to(folder))
    digests = {name: _digest(variables[name].encode()) for name in names}
    for name, packages in ((CODE, _PACKAGES), (DATASETS, ("schemas",))):
        files = [file for package in packages for file in sorted((PROJECT / package).rglob("*.py"))]
        digests[name] = _digest(b"".join(str(file).encode() + file.read_bytes() for file in files))
    return digests


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Names of variables, or of code, whose digest differs. Pure."""
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    return [name for name in names if name != CODE or DATASETS not in names]


def concerned(changes: Sequence[str], instances: Sequence[Instance]) -> list[str]:
    """The names of the processes that read what has changed. Pure."""
    return [one.name for one in instances if any(_reads(one.role.name, name) for name in changes)]


def _reads(role: str, name: str) -> bool:
    if name in (CODE, DATASETS) or name in _SETTINGS:
        return name not in READERS or role in READERS[name]
    return role in SOURCE_READERS


def referred_to(folder: Path) -> set[str]:
    """The variables that sources.toml and alarms.toml refer to, the stack's own left out."""
    variables, found = read_variables(folder), set[str]()
    for name in ("sources", "alarms"):
        file = folder / variables.get(f"{name.upper()}_FILE", f"{name}.toml")
        with contextlib.suppress(OSError, UnicodeDecodeError):
            found.update(VARIABLE.findall(file.read_text(encoding="utf-8")))
    return found - OF_THE_STACK


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _started(home: Path, program: str) -> Path:
    return home / "run" / "started" / f"{program}.json"


def _file(home: Path) -> Path:
    return home / "run" / "variables.json"
