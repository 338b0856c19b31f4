"""`headrace rehearse` asks the stage's processes whether they would notice."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from commands.rehearse import rehearse
from local_stack.addresses import DEFAULT_PORTS
from local_stack.programs import port_defaults
from local_stack.state_folder import StackRecord, StateFolder
from rehearsals import file as rehearsals
from rehearsals.watch import watch_for
from runtime.health import HealthServer
from runtime.settings import Settings
from tests.processes import free_port


def test_a_process_that_was_started_without_the_setting_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.setenv("REHEARSALS", "true")
    monkeypatch.setattr("rehearsals.watch._here", {})
    monkeypatch.setattr("runtime.health._shown_too", {})
    port = free_port()
    state = StateFolder.at(tmp_path)
    state.make()
    state.write_record(StackRecord(ports={**DEFAULT_PORTS, **port_defaults(), "NORMALIZER_HEALTH_PORT": port}))
    words = ("--stage", "normalizer", "--kind", "slow")
    with HealthServer(port, dict):
        refused = CliRunner().invoke(rehearse, words)
        assert refused.exit_code == 1
        assert "normalizer: started without REHEARSALS=true" in " ".join(refused.output.split())
        assert rehearsals.running(tmp_path) == []

        watch_for(Settings(headrace_home=tmp_path, rehearsals=True), "normalizer")
        assert CliRunner().invoke(rehearse, words).exit_code == 0
    assert [one.stage for one in rehearsals.running(tmp_path)] == ["normalizer"]
