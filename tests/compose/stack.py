"""The stack of docker-compose.yml under a name, an image and ports of its own."""

import json
import os
import subprocess
from dataclasses import dataclass
from typing import Any

import httpx

from local_stack.containers import addresses_of_containers, service_of
from local_stack.programs import PROJECT
from tests.waiting import eventually

TIMEOUT_SECONDS = 900
"""For one command: the first builds the image."""


@dataclass(frozen=True)
class ComposeStack:
    """`docker compose` on this project, with these variables besides the inherited ones."""

    variables: dict[str, str]

    def __call__(self, *words: str) -> str:
        """Run `docker compose WORDS`; its output. A failure fails the test with the services' last lines."""
        done = self._run("compose", *words)
        if done.returncode != 0:
            logs = self._run("compose", "logs", "--tail", "15").stdout
            raise AssertionError(f"docker compose {' '.join(words)}: {done.returncode}\n{done.stderr}\n{logs}")
        return done.stdout

    def headrace(self, *words: str) -> str:
        """A command of ours inside the stack."""
        return self("exec", "--no-TTY", "api", "headrace", *words)

    def kill(self, service: str) -> None:
        """kill -9 from inside: `docker kill` would be an operator's wish, after which the engine restarts nothing.

        Whether it did is not known: the process that kills all others may be killed with them.
        """
        everything = "import os, signal; os.kill(-1, signal.SIGKILL)"
        self._run("compose", "exec", "--no-TTY", service, "python", "-c", everything)

    def containers(self) -> dict[str, list[dict[str, Any]]]:
        """Answers of `docker inspect`, by service."""
        ids = self("ps", "--all", "--quiet").split()
        found: dict[str, list[dict[str, Any]]] = {}
        for one in json.loads(self._run("inspect", *ids).stdout) if ids else []:
            found.setdefault(service_of(one), []).append(one)
        return found

    def volumes(self) -> list[str]:
        """The volumes that belong to this stack."""
        label = f"label=com.docker.compose.project={self.variables['COMPOSE_PROJECT_NAME']}"
        return self._run("volume", "ls", "--quiet", "--filter", label).stdout.split()

    def image(self, name: str) -> dict[str, Any]:
        """Answer of `docker image inspect`."""
        found: list[dict[str, Any]] = json.loads(self._run("image", "inspect", name).stdout)
        return found[0]

    def remove_image(self, name: str) -> None:
        """With what only it holds."""
        self._run("image", "rm", name)

    def addresses(self) -> dict[str, str]:
        """Where the running services are reached from here."""
        return addresses_of_containers(one for several in self.containers().values() for one in several)

    def get(self, path: str, **parameters: str | int) -> httpx.Response:
        """Ask the API."""
        url = f"http://127.0.0.1:{self.variables['API_PORT']}{path}"
        return httpx.get(url, params=parameters, timeout=30, trust_env=False).raise_for_status()

    def customers(self) -> int:
        """Number of customers that the API serves."""
        return self._total("/api/customers")

    def users(self) -> int:
        """Number of users that the API serves."""
        return self._total("/users")

    def _total(self, path: str) -> int:
        total: int = self.get(path, page=1, limit=1).json()["total"]
        return total

    def wait_until_healthy(self, *services: str) -> None:
        """Block until every container of these services runs and its own check says that it is well."""

        def healthy() -> bool:
            found = self.containers()
            return all(
                one["State"]["Running"] and one["State"]["Health"]["Status"] == "healthy"
                for service in services
                for one in found[service]
            )

        eventually(healthy, what=f"{', '.join(services)} are healthy", within=180, every=1)

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", *words],
            cwd=PROJECT,
            env=os.environ | self.variables,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
