from pathlib import Path

from local_stack.addresses import DEFAULT_PORTS, addresses_of
from local_stack.programs import port_defaults, role_instances
from local_stack.state_folder import StackRecord, StateFolder
from local_stack.summary import Counts, summary_lines


def test_a_stack_that_an_older_version_has_started_has_none_of_a_newer_role(tmp_path: Path) -> None:
    """Its ports were decided before there was a dashboard: `status`, `restart` and `down` work on it all the same."""
    older = StackRecord(ports={name: port for name, port in DEFAULT_PORTS.items() if name != "DASHBOARD_PORT"})
    older.ports.update(port_defaults())
    names = {one.name for one in role_instances(older)}
    assert "dashboard" not in names
    assert {"api", "normalizer", "scheduler"} <= names
    assert "DASHBOARD_URL" not in addresses_of(older)
    assert any("restart the stack" in line for line in summary_lines(StateFolder.at(tmp_path), older, Counts({}, None)))


def test_a_stack_of_this_version_has_a_dashboard() -> None:
    record = StackRecord(ports=DEFAULT_PORTS | port_defaults())
    assert "dashboard" in {one.name for one in role_instances(record)}
    assert addresses_of(record)["DASHBOARD_URL"] == "http://127.0.0.1:8090"
