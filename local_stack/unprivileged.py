"""Postgres refuses to run as root; this runs it as `nobody` there, and directly for everybody else."""

import os
import pwd
import shutil
import subprocess
from functools import cache
from pathlib import Path

from local_stack.errors import StackError


@cache
def unprivileged_prefix() -> tuple[str, ...]:
    """What to put before a command that refuses root; empty for ordinary users.

    CAP_DAC_OVERRIDE stays, so that the user can pass parent folders that are closed to others (a checkout under /root).
    Raises StackError for root on a machine without a working `setpriv`.
    """
    if os.geteuid() != 0:
        return ()
    user = _nobody()
    setpriv = shutil.which("setpriv")
    prefix = (
        setpriv or "setpriv",
        f"--reuid={user.pw_uid}",
        f"--regid={user.pw_gid}",
        "--clear-groups",
        "--inh-caps=+dac_override",
        "--ambient-caps=+dac_override",
        "--",
    )
    if setpriv is None or subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
        raise StackError(
            "Postgres does not run as root, and `setpriv` (util-linux) can't change to another user here.",
            remedy="Run headrace as an ordinary user, or install util-linux.",
        )
    return prefix


def give_away(folder: Path) -> None:
    """Make the folder and all in it the property of the user that `unprivileged_prefix` changes to."""
    if os.geteuid() != 0:
        return
    user = _nobody()
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)


def _nobody() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("nobody")
    except KeyError as error:
        raise StackError(
            "Postgres does not run as root, and there is no user `nobody` to run it as.",
            remedy="Run headrace as an ordinary user.",
        ) from error
