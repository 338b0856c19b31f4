"""Writes supervisord.conf: every program of the stack, with its order, signals, logs and restart rules."""

import os
import resource
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from local_stack.errors import StackError
from local_stack.programs import Instance, Tier
from local_stack.server import Server
from local_stack.state_folder import StateFolder

OPEN_FILES = 8192
"""Kafka and Elasticsearch keep a few files open per partition and segment."""

LOG_BYTES = 10 * 1024 * 1024
LOG_BACKUPS = 3

RETRIES = 100
"""The pause grows by 1 s a try, so a process is tried for more than an hour before it is given up: servers too, since a
disk that is full keeps one from starting until there is room.
"""


@dataclass(frozen=True)
class Program:
    """One supervised process."""

    name: str
    command: Sequence[str]
    environment: dict[str, str]
    tier: Tier
    folder: Path
    stop_signal: str
    stop_seconds: int

    @classmethod
    def of_server(cls, server: Server, folder: Path) -> "Program":
        """The program of a server; `folder` becomes its working folder."""
        return cls(server.name, server.command(), server.environment(), Tier.SERVERS, folder, server.stop_signal, 30)

    @classmethod
    def of_instance(cls, instance: Instance, folder: Path) -> "Program":
        """The program of a process of ours; `folder` is where sources.toml is looked for."""
        return cls(instance.name, instance.command(), instance.environment(), instance.role.tier, folder, "TERM", 20)


def render(state: StateFolder, programs: Iterable[Program]) -> str:
    """The content of supervisord.conf. Programs are started one tier after the other by `headrace up`."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    lines = [
        "; Written by `headrace up`; changes are lost at the next one.",
        "[supervisord]",
        f"logfile={_value(state.supervisor_log)}",
        f"pidfile={_value(state.supervisor_pid)}",
        f"childlogdir={_value(state.logs)}",
        "nodaemon=true",
        "silent=true",
        f"minfds={files}",
        # Said, so that supervisord doesn't warn about it: servers and roles listen on loopback only.
        *(["user=root"] if os.geteuid() == 0 else []),
        "",
        "[unix_http_server]",
        f"file={_value(state.supervisor_socket)}",
        "chmod=0600",
        "",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
    ]
    for program in programs:
        lines += ["", *_section(state, program)]
    return "\n".join(lines) + "\n"


def _section(state: StateFolder, program: Program) -> list[str]:
    # The mark tells our processes from others, should a supervisor be killed and leave them behind.
    environment = {**program.environment, "HEADRACE_PROGRAM": program.name}
    return [
        f"[program:{program.name}]",
        f"command={_value(shlex.join(program.command))}",
        f"directory={_value(program.folder)}",
        "environment=" + ",".join(f'{name}="{_value(value)}"' for name, value in environment.items()),
        f"priority={program.tier * 100}",
        "autostart=false",
        "autorestart=true",
        "startsecs=2",
        f"startretries={RETRIES}",
        f"stopsignal={program.stop_signal}",
        f"stopwaitsecs={program.stop_seconds}",
        # The process itself drains and stops its children; only a kill must reach all of them.
        "stopasgroup=false",
        "killasgroup=true",
        "redirect_stderr=true",
        f"stdout_logfile={_value(state.log(program.name))}",
        f"stdout_logfile_maxbytes={LOG_BYTES}",
        f"stdout_logfile_backups={LOG_BACKUPS}",
    ]


def _value(value: object) -> str:
    text = str(value)
    # supervisord.conf has no way to write these: they end a line, a string or start a comment.
    if "\n" in text or '"' in text or " ;" in text or " #" in text:
        raise StackError(
            f"The path {text!r} can't be written in a supervisor's configuration.",
            remedy="Choose a state folder without quotes, ` ;` and ` #`: HEADRACE_HOME=/some/folder headrace up",
        )
    return text.replace("%", "%%")
