"""While Postgres is away, alarms about the lag are told all the same, and what cannot be looked at changes nothing."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from monitoring.verdicts import Verdict
from runtime.settings import Settings
from services.alarms.alarms import Alarms
from tests.integration.alarm_receiver import Receiver
from tests.integration.api_client import closed_port

RULES = """
[targets.team]
kind = "json"
url = "{url}"
[rules.stopped]
when = "verdict"
clear_seconds = 0
[rules.run_failed]
when = "run_failed"
"""


def view(verdict: Verdict) -> Any:
    group = SimpleNamespace(group="normalizer", ours=True, verdict=verdict, reason="7 wait")
    return SimpleNamespace(groups=[group], away_since=None)


async def test_a_stopped_group_is_told_of_without_postgres(tmp_path: Path) -> None:
    url = f"postgresql://headrace@127.0.0.1:{closed_port()}/headrace"
    file = tmp_path / "alarms.toml"
    with Receiver() as team:
        file.write_text(RULES.format(url=team.url))
        alarms = Alarms(Settings(headrace_home=tmp_path, database_url=SecretStr(url), alarms_file=file))
        assert await alarms.look() == [], "before the first view nothing is known"
        await alarms.take(view(Verdict.STOP))
        assert [event.kind for event in await alarms.look()] == ["opened"]
        assert await alarms.look() == []
        assert [(one.rule, one.subject) for one in alarms.open()] == [("stopped", "normalizer")]
        await alarms.take(view(Verdict.OK))
        assert [event.kind for event in await alarms.look()] == ["closed"]
        await alarms._telling.close(10)
    assert team.events() == [("opened", "stopped", "normalizer"), ("closed", "stopped", "normalizer")]
    assert alarms.health() == {"rules": 2, "open": 0}
    assert len(alarms._unsaved) == 1, "it is saved once Postgres is back"


@pytest.mark.parametrize("content", ["[rules.a]\nwhen = 'late'\n", "no toml"])
async def test_a_file_that_is_wrong_changes_nothing(content: str, tmp_path: Path) -> None:
    url = f"postgresql://headrace@127.0.0.1:{closed_port()}/headrace"
    file = tmp_path / "alarms.toml"
    file.write_text(RULES.format(url="http://127.0.0.1:9/"))
    alarms = Alarms(Settings(headrace_home=tmp_path, database_url=SecretStr(url), alarms_file=file))
    await alarms.look()
    file.write_text(content)
    await alarms.look()
    assert alarms.health()["rules"] == 2
    assert str(file) in alarms.health()["degraded"]
