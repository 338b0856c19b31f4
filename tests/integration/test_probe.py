"""A container's health check asks the process that the container runs."""

import httpx
import pytest

from local_stack.programs import ROLES, Instance
from runtime import probe
from runtime.health import HealthServer
from tests.processes import free_port


def test_a_worker_that_is_well_is_healthy() -> None:
    port = free_port()
    with HealthServer(port, lambda: {"records": 1}):
        assert probe.problem({"HEALTH_PORT": str(port)}) is None


def test_a_worker_with_a_problem_is_unhealthy_and_names_it() -> None:
    port = free_port()
    with HealthServer(port, lambda: {"problem": "Kafka is lost"}):
        said = probe.problem({"HEALTH_PORT": str(port), "API_PORT": "0"})
    assert said is not None
    assert "503" in said
    assert "Kafka is lost" in said


def test_a_worker_that_has_paused_a_topic_is_well_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    with HealthServer(port, lambda: {"paused": {"customers.clean": "declared anew"}}):
        assert probe.problem({"HEALTH_PORT": str(port)}) is None
        [role] = [role for role in ROLES if role.name == "sink-postgres"]
        worker = Instance(role, 0, port)
        assert worker.problem() is None
        assert worker.note() == "customers.clean is paused: declared anew"
        assert httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).json()["status"] == "degraded"
    assert capsys.readouterr().out == "customers.clean is paused: declared anew\n"


def test_the_api_is_asked_where_no_worker_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setattr(probe, "DOORS", (("HEALTH_PORT", "/health"), ("API_PORT", "/health")))
    with HealthServer(port, dict):
        assert probe.problem({"HEALTH_PORT": str(free_port()), "API_PORT": str(port)}) is None


def test_a_container_in_which_nothing_listens_is_not_healthy() -> None:
    port = str(free_port())
    assert probe.problem({"HEALTH_PORT": port, "API_PORT": "0"}) == f"nothing listens on port {port} (HEALTH_PORT)"
    assert "no port is set" in str(probe.problem({}))
