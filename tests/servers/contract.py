"""The contract of a back end: start, stop and freeze servers for the tests."""

from typing import Literal, Protocol

ServerName = Literal["kafka", "postgres", "redis", "elasticsearch"]

SERVER_NAMES: tuple[ServerName, ...] = ("kafka", "postgres", "redis", "elasticsearch")


class Servers(Protocol):
    """Real Kafka, Postgres, Redis and Elasticsearch, empty at first, on ports of their own that survive a restart."""

    @property
    def description(self) -> str:
        """One line for the header of the test run."""

    @property
    def addresses(self) -> dict[str, str]:
        """KAFKA_BOOTSTRAP_SERVERS, DATABASE_URL, SUPERUSER_DATABASE_URL, REDIS_URL and ELASTICSEARCH_URL.

        The role of DATABASE_URL makes no databases: the superuser makes them for it.
        """

    def stop(self, name: ServerName) -> None:
        """Stop one cleanly; blocks until it is gone."""

    def kill(self, name: ServerName) -> None:
        """kill -9."""

    def start(self, name: ServerName) -> None:
        """Start it again with its data and on its port; blocks until it serves."""

    def pause(self, name: ServerName) -> None:
        """Freeze it (SIGSTOP): connections stay open and nothing answers."""

    def resume(self, name: ServerName) -> None:
        """Let a paused one run on."""

    def close(self) -> None:
        """Stop all and delete their data."""
