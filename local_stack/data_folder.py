"""The folder of the servers' data: where the servers' user can enter it, and nobody else."""

import os
import shutil
import tempfile
from pathlib import Path

from local_stack.errors import StackError
from local_stack.unprivileged import can_enter, show

ROOTS_DATA = "/var/lib/headrace"
"""Where the data of root's stacks is, unless HEADRACE_DATA names another folder."""


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
