"""Runs servers as the user who starts them, but never as root. Root has a user of its own for them.

Two rules hold for root, so that who takes over a server gets nothing but the server: a server runs without any
capability and can't get one, and root writes nothing into a folder that the servers' user may write to.
"""

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from local_stack.errors import StackError

USER = "headrace-servers"
"""Nobody else runs as it; `nobody` is shared by services that have nothing to do with each other."""

AS_ORDINARY_USER = "Run headrace as an ordinary user"

ROOTS_DATA = "/var/lib/headrace"
"""The folder of root's stacks' data, unless HEADRACE_DATA names another one."""

COPIES = Path("/var/cache/headrace")
"""Root's own; the servers' user reads and runs what is in it."""


def unprivileged(command: Sequence[str], environment: Mapping[str, str] | None = None) -> list[str]:
    """The command as it is to be started: for root as the servers' user, with these variables and no others.

    Root's own variables may hold credentials. Everybody else sets the variables themselves; there the command can't get
    more rights than they have now (`sudo`), where the machine has `setpriv`. Raises StackError as `servers_user` does.
    """
    if os.geteuid() != 0:
        setpriv = shutil.which("setpriv")
        return [*([setpriv, "--no-new-privs", "--"] if setpriv else []), *command]
    variables = {"PATH": "/usr/local/bin:/usr/bin:/bin"} | dict(environment or {})
    return [*_as_servers_user(), "env", "-i", *(f"{name}={value}" for name, value in variables.items()), *command]


@cache
def servers_user() -> pwd.struct_passwd:
    """The servers' user where root starts them; made now if there is none yet.

    Raises StackError where that is not possible.
    """
    for _ in range(2):  # the second look is for somebody who made it at the same time
        try:
            return pwd.getpwnam(USER)
        except KeyError:
            why = _make_user()
    raise StackError(
        f"The servers don't run as root, and their user `{USER}` can't be made: {why}.",
        remedy=f"{AS_ORDINARY_USER}, or make that user: useradd --system {USER}",
    )


def own(folder: Path) -> Path:
    """Make a folder that only the servers' user can enter; one that is there becomes its property with all in it.

    Idempotent.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    if os.geteuid() == 0 and folder.stat().st_uid != (uid := servers_user().pw_uid):
        # The folder comes last, so that it tells whether all in it was given away.
        for path in (*folder.rglob("*"), folder):
            found = path.lstat()
            # A second link to a file of somebody else would give that away too.
            if found.st_nlink == 1 or not stat.S_ISREG(found.st_mode):
                os.chown(path, uid, servers_user().pw_gid, follow_symlinks=False)
    return folder


def show(path: Path) -> Path:
    """Let the servers' user read a file or enter a folder, and nobody else. Idempotent."""
    folder = path.is_dir()
    if os.geteuid() == 0:
        os.chown(path, 0, servers_user().pw_gid)
        path.chmod(0o750 if folder else 0o640)
    else:
        path.chmod(0o700 if folder else 0o600)
    return path


def can_enter(folder: Path) -> bool:
    """True if the servers' user can pass through this folder and all above it, by their modes."""
    if os.geteuid() != 0:
        return True
    user = servers_user()
    for place in {above for path in (folder.absolute(), folder.resolve()) for above in (path, *path.parents)}:
        found = place.stat()
        owned, grouped = found.st_uid == user.pw_uid, found.st_gid == user.pw_gid
        bit = stat.S_IXUSR if owned else stat.S_IXGRP if grouped else stat.S_IXOTH
        if not found.st_mode & bit:
            return False
    return True


@cache
def _as_servers_user() -> tuple[str, ...]:
    user, setpriv = servers_user(), shutil.which("setpriv")
    words = (
        setpriv or "setpriv",
        f"--reuid={user.pw_uid}",
        f"--regid={user.pw_gid}",
        "--clear-groups",
        "--inh-caps=-all",
        "--ambient-caps=-all",
        "--bounding-set=-all",
        "--no-new-privs",
        "--",
    )
    if setpriv is None or subprocess.run([*words, "true"], capture_output=True, check=False).returncode != 0:
        raise StackError(
            "The servers don't run as root, and `setpriv` (util-linux) can't change to another user here.",
            remedy=f"{AS_ORDINARY_USER}, or install util-linux.",
        )
    return words


def _make_user() -> str:
    """Make the system user; why that failed, empty if it didn't."""
    useradd = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
    if useradd is None:
        return "there is no `useradd`"
    options = ["--system", "--user-group", "--no-create-home", "--home-dir=/nonexistent", "--shell=/usr/sbin/nologin"]
    done = subprocess.run([useradd, *options, USER], capture_output=True, text=True, check=False)
    return done.stderr.strip().rstrip(".")


def make_data_folder(folder: Path) -> None:
    """Make it, or make the one that is there fit. Blocking (seconds if data has to move), idempotent.

    Root's servers are another user, who can't enter a state folder, nor a checkout below /root: there the folder is a
    link to one that this user can enter, and data that was here moves there. Raises StackError when it can't be made.
    """
    moving = folder.with_name(f"{folder.name}.moving")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if not folder.is_symlink() and not can_enter(folder.parent):
            # In this order, and from any point of it again, nothing gets lost.
            if folder.exists():
                folder.rename(moving)
            folder.symlink_to(tempfile.mkdtemp(prefix=f"{folder.parent.name.lstrip('.')}-", dir=_elsewhere()))
        if moving.exists():
            _move(moving, folder.resolve())
        if "," in str(folder.resolve()):
            raise StackError(
                f"The servers' data can't be in {folder.resolve()}: Kafka takes a path with a comma for two.",
                remedy="Choose another one: HEADRACE_HOME=/some/folder",
            )
        folder.resolve().mkdir(mode=0o700, exist_ok=True)
        show(folder.resolve())
    except OSError as error:
        raise StackError(
            f"The folder of the servers' data, {error.filename or folder}, can't be made: {error.strerror}.",
            remedy="Choose another one: HEADRACE_HOME=/some/folder"
            + (", or HEADRACE_DATA=/some/folder, since root's servers can't enter every folder" * (os.geteuid() == 0)),
        ) from error


def delete_data_folder(folder: Path) -> None:
    """Delete the folder with all data, wherever it is. Idempotent."""
    if folder.is_symlink():
        shutil.rmtree(folder.resolve(), ignore_errors=True)
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def _elsewhere() -> Path:
    root = Path(os.environ.get("HEADRACE_DATA") or ROOTS_DATA).absolute()
    root.mkdir(parents=True, exist_ok=True)
    if not can_enter(root):
        raise StackError(
            f"The servers' user can't enter {root}, so their data can't be there.",
            remedy="Choose a folder below folders that all may enter (chmod o+x): HEADRACE_DATA=/some/folder",
        )
    return root


def _move(source: Path, target: Path) -> None:
    try:
        source.rename(target)  # over the empty folder
    except OSError:  # another file system, or an earlier try that was cut short
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(source)


def reachable(program: Path) -> Path:
    """The program's file or folder, or for root, where its servers' user can't get at it, a copy that it can run.

    A copy is made once per content. Blocking: a second at first, some 0.1 s to look at it again. Raises OSError.
    """
    if can_enter(program if program.is_dir() else program.parent):
        return program
    root, parts = _together(program)
    copy = COPIES / f"{parts[0].name}-{_digest(parts)}"
    if not copy.exists():
        COPIES.mkdir(mode=0o755, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".copying-", dir=COPIES) as aside:
            made = Path(aside, "made")
            made.mkdir()
            for part in parts:
                _copy(part, made / part.name)
            _open(made)
            try:
                made.rename(copy)
            except OSError:
                if not copy.exists():  # otherwise somebody else has made it meanwhile
                    raise
    return copy / program.relative_to(root)


def _together(program: Path) -> tuple[Path, list[Path]]:
    """The folder around the program, and the parts of it that the program needs: of a wheel, its libraries too."""
    for folder in program.parents:
        if folder.parent.name == "site-packages":
            libraries = folder.with_name(f"{folder.name}.libs")
            return folder.parent, [folder, *([libraries] if libraries.is_dir() else [])]
    return program.parent, [program]


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target)


def _open(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            runs = path.is_dir() or path.stat().st_mode & 0o111
            path.chmod(0o755 if runs else 0o644)


def _digest(parts: Sequence[Path]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        for path in sorted([part, *part.rglob("*")]):
            digest.update(os.fsencode(path.relative_to(part.parent)) + b"\0")
            if path.is_file():
                digest.update(path.read_bytes())
    return digest.hexdigest()
