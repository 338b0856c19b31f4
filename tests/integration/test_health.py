"""A process's health, over HTTP."""

import httpx
import pytest

from runtime.health import HealthServer
from tests.processes import free_port


def test_details_are_shown_and_a_problem_makes_it_unhealthy() -> None:
    details: dict[str, object] = {"records": 7}
    port = free_port()
    with HealthServer(port, lambda: details):
        url = f"http://127.0.0.1:{port}"
        assert httpx.get(f"{url}/health").json() == {"status": "healthy", "records": 7}
        details["problem"] = "postgres: refused"
        answer = httpx.get(f"{url}/health")
        assert answer.status_code == 503
        assert answer.json() == {"status": "unhealthy", "records": 7, "problem": "postgres: refused"}
        assert "python_info" in httpx.get(f"{url}/metrics").text
        assert httpx.get(f"{url}/elsewhere").status_code == 404


def test_the_port_is_free_again_afterwards() -> None:
    port = free_port()
    for _ in range(2):
        with HealthServer(port, dict):
            assert httpx.get(f"http://127.0.0.1:{port}/health").is_success


def test_a_taken_port_is_an_error_at_start() -> None:
    port = free_port()
    with HealthServer(port, dict), pytest.raises(OSError, match="in use"), HealthServer(port, dict):
        pass
