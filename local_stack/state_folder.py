"""The state folder: everything one stack keeps, and nothing of any other."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from local_stack.errors import StackError
from local_stack.unprivileged import delete_data_folder
from runtime.settings import COMPOSE_ENV, STACK_ENV

REQUIRED_BYTES = 1024**3
"""Servers, indices and logs of the first ingestion take some 600 MB; below that Kafka and Postgres die mid-write."""

SOCKET_PATH_BYTES = 100
"""A unix socket's path fits in 108 bytes on Linux and 104 on macOS, with its end mark."""

MARK = ".headrace-state"
"""A file that only our state folders hold, so `clean` can't be pointed at anything else."""

NEW_DISK = "lost+found"
"""The folder that a new file system begins with."""

UNMARKED = frozenset({"run", COMPOSE_ENV, NEW_DISK})
"""May be in a folder before it has the mark: what processes without a stack keep there, and what a new disk holds."""


def require_space(folder: Path, required_bytes: int = REQUIRED_BYTES) -> None:
    """Raise StackError unless the file system that holds (or will hold) this folder has enough free space."""
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < required_bytes:
        raise StackError(
            f"The disk is full: {free >> 20} MB free under {existing}, {required_bytes >> 20} MB needed.",
            remedy="Free some space (`headrace clean` deletes this stack's data), or move the stack: "
            "HEADRACE_HOME=/elsewhere headrace up",
        )


@dataclass(frozen=True)
class StackRecord:
    """Facts that a stack remembers between its starts."""

    ports: dict[str, int] = field(default_factory=dict)
    without: dict[str, str] = field(default_factory=dict)
    """Redis or Elasticsearch, where there is none, and why."""
    servers_only: bool = False
    """The last start left our own processes out."""
    ingested: bool = False
    """The first ingestion has succeeded."""
    brokers: int = 1
    """Kafka nodes; fixed once there is data, since topics and quorum were laid out for them."""
    counts: dict[str, int] = field(default_factory=dict)
    """Instances of a role; roles that are not named have one."""
    redis: str = ""
    """Name and version of the Redis or Valkey, for people."""
    folder: str = ""
    """Working folder of `headrace up`: processes that are added later find the same .env and sources.toml there."""
    passwords: dict[str, str] = field(default_factory=dict, repr=False)
    """Of the servers that ask for one; empty in a stack that a version without them has started."""
    forget_secret: str = field(default="", repr=False)
    """FORGET_SECRET of its processes; empty in a stack that a version without it has started."""


@dataclass(frozen=True)
class StateFolder:
    """Paths inside HEADRACE_HOME; making one of these touches nothing."""

    home: Path

    @classmethod
    def at(cls, home: Path) -> Self:
        """The state folder with this path, made absolute."""
        return cls(Path(os.path.realpath(home)))

    @property
    def data(self) -> Path:
        """The servers' data; a link where that is elsewhere (`make_data_folder`)."""
        return self.home / "data"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def run(self) -> Path:
        return self.home / "run"

    @property
    def env_file(self) -> Path:
        return self.home / STACK_ENV

    @property
    def supervisor_config(self) -> Path:
        return self.home / "supervisord.conf"

    @property
    def supervisor_log(self) -> Path:
        return self.logs / "supervisord.log"

    @property
    def watchdog_log(self) -> Path:
        """A JSON line per process that the watchdog restarted since the stack was started."""
        return self.logs / "watchdog-restarts.jsonl"

    @property
    def supervisor_pid(self) -> Path:
        return self.run / "supervisord.pid"

    @property
    def supervisor_socket(self) -> Path:
        """The supervisor's control socket; in a private temporary folder when our own path is too long for one."""
        inside = self.run / "supervisor.sock"
        if len(os.fsencode(inside)) <= SOCKET_PATH_BYTES:
            return inside
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        # Not tempfile.gettempdir(): every command must find the same place, whatever its TMPDIR.
        return Path(f"/tmp/headrace-{os.getuid()}") / f"{digest}.sock"  # noqa: S108 (made with mode 0700)

    def log(self, program: str) -> Path:
        return self.logs / f"{program}.log"

    def make(self) -> None:
        """Create the folders, closed to everybody else. Idempotent. Raises StackError where that is not possible, and
        for a folder that holds anything else, since `clean` deletes all of it, or is another user's.
        """
        try:
            self._require_ours()
            for folder in (self.home, self.logs, self.run):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                folder.chmod(0o700)
            self.supervisor_socket.parent.mkdir(mode=0o700, exist_ok=True)
            (self.home / MARK).touch()
        except OSError as error:
            raise StackError(
                f"The state folder {self.home} can't be made: {error.strerror} ({error.filename}).",
                remedy="Choose another one: HEADRACE_HOME=/some/folder headrace up",
            ) from error
        _require_own(self.supervisor_socket.parent, "a state folder with a shorter path")

    def _require_ours(self) -> None:
        if not self.home.exists():
            return
        _require_own(self.home, "another one")
        strangers = sorted({path.name for path in self.home.iterdir()} - UNMARKED)
        if strangers and not self.is_ours():
            raise StackError(
                f"{self.home} is not a state folder of headrace: it holds {', '.join(strangers[:3])}"
                + (" and more." if len(strangers) > 3 else "."),
                remedy="Choose a new or an empty one: HEADRACE_HOME=/some/folder headrace up",
            )

    def is_ours(self) -> bool:
        """True for a state folder of ours; false for something else that HEADRACE_HOME points to."""
        return (self.home / MARK).is_file()

    def read_record(self) -> StackRecord:
        """The record; an empty one at the first start. Raises StackError when it is damaged."""
        try:
            stored = json.loads(self._record_file.read_text())
            # Another release may have remembered more, or by other names.
            return StackRecord(**{one.name: stored[one.name] for one in fields(StackRecord) if one.name in stored})
        except FileNotFoundError:
            return StackRecord()
        except (ValueError, TypeError) as error:
            raise StackError(
                f"{self._record_file} is damaged: {error}.",
                remedy="Mend it, or take it from a backup: without its FORGET_SECRET nobody knows who was forgotten. "
                "If nobody was, delete it; ports and passwords are then made again.",
            ) from error

    def write_record(self, record: StackRecord) -> None:
        """Remember this, atomically."""
        write_atomically(self._record_file, json.dumps(asdict(record), indent=2) + "\n")

    def write_addresses(self, addresses: dict[str, str]) -> None:
        """Write stack.env, readable by its owner only, since it holds the database's password."""
        write_atomically(self.env_file, "".join(f"{name}={value}\n" for name, value in addresses.items()))

    def read_addresses(self) -> dict[str, str]:
        """The addresses of the running stack; empty where none is."""
        try:
            lines = self.env_file.read_text().splitlines()
        except FileNotFoundError:
            return {}
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def remember_watchdog_restart(self, name: str, group: str, reason: str) -> None:
        """Keep a process that the watchdog restarted, with the time, until the stack is started again."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        with self.watchdog_log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"at": at, "name": name, "group": group, "reason": reason}) + "\n")

    def watchdog_restarts(self) -> list[dict[str, str]]:
        """Restarts by the watchdog since the stack was started: {at, name, group, reason}. Blocking."""
        try:
            lines = self.watchdog_log.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            with contextlib.suppress(ValueError):  # one that was cut short as it was written
                found.append(json.loads(line))
        return found

    def delete(self) -> None:
        """Delete the folder and everything in it; the folder itself stays where a disk is mounted.

        The mark goes last, so that a deletion which was cut short can be done again.
        """
        self.supervisor_socket.unlink(missing_ok=True)
        delete_data_folder(self.data)
        for path in self.home.iterdir():
            if path.is_dir() and not path.is_symlink() and path.name != NEW_DISK:
                shutil.rmtree(path)
            elif path.name not in (MARK, NEW_DISK):
                path.unlink()
        (self.home / MARK).unlink()
        if not self.home.is_mount():
            self.home.rmdir()

    def is_being_changed(self) -> bool:
        """True while `up`, `down`, `scale` or `restart` changes this stack."""
        try:
            with self._lock.open("a+") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        return False

    @contextmanager
    def only_one(self, command: str) -> Iterator[None]:
        """Hold the folder's lock; raises StackError when another command that changes the stack is at work."""
        # Opened without truncation: what stands there is the holder's.
        with self._lock.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                raise StackError(
                    f"{file.read().strip() or 'Another headrace command'} is at work on {self.home}.",
                    remedy="Wait for it, or press Ctrl-C there; `headrace status` shows how far it is.",
                ) from error
            file.truncate(0)
            file.write(f"`headrace {command}` (pid {os.getpid()})")
            file.flush()
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    file.truncate(0)

    @property
    def _lock(self) -> Path:
        return self.run / "lock"

    @property
    def _record_file(self) -> Path:
        return self.home / "stack.json"


def _require_own(folder: Path, instead: str) -> None:
    if (owner := folder.stat().st_uid) != os.getuid():
        raise StackError(
            f"{folder} belongs to another user (uid {owner}).",
            remedy=f"Choose {instead}: HEADRACE_HOME=/some/folder headrace up",
        )


def write_atomically(path: Path, text: str) -> None:
    """Replace the file's content; a reader sees the old or the new, never half, nor does who starts after a power cut.
    Mode 0600. Raises OSError; the old content then stays.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)  # else the new name may be on the disk before the content is
        Path(temporary).rename(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
