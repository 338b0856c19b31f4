"""The loop of alarms in the role `monitor`: looks every few seconds, judges, keeps what is open, and tells."""

import asyncio
import contextlib
import time
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import structlog

from monitoring.alarm_file import NOTHING, AlarmFile, AlarmFileError, load_alarms
from monitoring.alarms import Alarm, Event, Key, judge, taken_over
from monitoring.view import SystemLag
from runtime.egress import Egress
from runtime.settings import ENV_FILE, Settings
from services.alarms.findings import Findings
from services.alarms.telling import Telling
from services.audits.audit import PartitionAudit
from stores.alarms import open_alarms, save_alarms
from stores.outages import is_unavailable
from stores.postgres_engine import postgres_engine

LOOK_SECONDS = 5.0
DRAIN_SECONDS = 3.0
CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 20.0

log = structlog.get_logger()


class Alarms:
    """`take` is one of the monitor's listeners; `run` belongs to the same event loop. `health` from any thread.

    A monitor that starts again takes over what is open. Without Postgres it goes on with what it knows, and saves it
    later.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine = postgres_engine(
            settings,
            pool_size=1,
            max_overflow=0,
            pool_pre_ping=True,
            connect_args={"timeout": CONNECT_SECONDS, "command_timeout": ANSWER_SECONDS},
        )
        self._findings = Findings(settings, self._engine)
        self._file: AlarmFile = NOTHING
        self._version: object = None
        self._wrong: str | None = None
        self._telling = Telling({}, Egress.of(settings))
        self._known: dict[Key, Alarm] = {}
        self._unsaved: dict[str, Alarm] = {}
        self._loaded = False
        self._view: SystemLag | None = None

    async def take(self, view: SystemLag) -> None:
        """Have the next look use this view."""
        self._view = view

    def health(self) -> dict[str, Any]:
        """Details for the health server."""
        shown: dict[str, Any] = {"rules": len(self._file.rules), "open": len(self.open())}
        if problems := self._telling.problems():
            shown["targets"] = problems
        if self._wrong:
            shown["degraded"] = self._wrong
        return shown

    @property
    def audited(self) -> list[PartitionAudit]:
        """The latest audit; nothing where no rule asks for one."""
        return self._findings.audited

    def open(self) -> list[Alarm]:
        """Alarms that are open."""
        return [alarm for alarm in list(self._known.values()) if alarm.id is not None]

    async def run(self, stopping: asyncio.Event) -> None:
        """Look until `stopping` is set. Nothing that a store, a target or a rule does ends it."""
        try:
            while not stopping.is_set():
                try:
                    await self.look()
                except Exception:
                    log.exception("alarms_not_judged")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), LOOK_SECONDS)
        finally:
            await self._telling.close(DRAIN_SECONDS)
            await self._engine.dispose()

    async def look(self) -> list[Event]:
        """Look once; what was told."""
        await self._read_file()
        told = await self._load()
        if self._view is None:
            return told
        found = await self._findings.look(self._file, self._view)
        before = self._known
        self._known, events = judge(self._file.judged(), before, found, time.time())
        self._tell(events)
        await self._save()
        return told + events

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            self._telling.tell(event)
            if event.alarm.id:
                self._unsaved[event.alarm.id] = event.alarm

    async def _read_file(self) -> None:
        """Take over a file that has changed. A wrong one changes nothing, and is told once."""
        version = [_state_of(file) for file in (self._settings.alarms_file, ENV_FILE)]
        if version == self._version:
            return
        self._version = version
        try:
            file = await asyncio.to_thread(load_alarms, self._settings)
        except AlarmFileError as error:
            self._wrong = str(error)
            log.error("alarms_file_wrong", reason=self._wrong)  # noqa: TRY400 (it says it all)
            return
        self._wrong = None
        if file.targets != self._file.targets:
            await self._telling.retarget(file.targets)
        self._file = file
        log.info("alarm_rules", rules=list(file.rules), targets=list(file.targets))

    async def _load(self) -> list[Event]:
        """Take over what was open when the monitor ended; what was told of it."""
        if self._loaded:
            return []
        try:
            async with self._engine.connect() as connection:
                rows = await open_alarms(connection)
        except Exception as error:
            if is_unavailable(error):
                return []
            raise
        names = {one.name for one in fields(Alarm)}
        stored = [Alarm(**{name: value for name, value in row.items() if name in names}) for row in rows]
        self._known, events = taken_over(self._file.judged(), self._known, stored, time.time())
        self._loaded = True
        self._tell(events)
        return events

    async def _save(self) -> None:
        if not self._unsaved:
            return
        bodies = [{**alarm.json(), "told_at": alarm.told_at} for alarm in self._unsaved.values()]
        try:
            async with self._engine.begin() as connection:
                await save_alarms(connection, bodies)
        except Exception as error:
            if is_unavailable(error):
                return
            raise
        self._unsaved.clear()


def _state_of(file: Any) -> object:
    try:
        status = file.stat()
    except OSError as error:
        return str(error)
    return status.st_mtime_ns, status.st_size
