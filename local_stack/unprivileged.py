"""Who the servers run as: whoever starts them, but never root. Root has a user of its own for them.

Two rules hold for root, so that who takes over a server gets nothing but the server: a server runs without any
capability and can't get one, and root writes nothing into a folder that the servers' user may write to.
"""

import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from local_stack.errors import StackError

USER = "headrace-servers"
"""Nobody else runs as it; `nobody` is shared by services that have nothing to do with each other."""

AS_ORDINARY_USER = "Run headrace as an ordinary user"


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
    """Whether the servers' user can pass through this folder and all above it, by their modes."""
    if os.geteuid() != 0:
        return True
    user = servers_user()
    for place in {*_upwards(folder.absolute()), *_upwards(folder.resolve())}:
        found = place.stat()
        owned, grouped = found.st_uid == user.pw_uid, found.st_gid == user.pw_gid
        bit = stat.S_IXUSR if owned else stat.S_IXGRP if grouped else stat.S_IXOTH
        if not found.st_mode & bit:
            return False
    return True


def _upwards(path: Path) -> tuple[Path, ...]:
    return (path, *path.parents)


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
