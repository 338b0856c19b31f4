"""The container back end: testcontainers, each server on a loopback port that it keeps over stops and starts."""

import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from testcontainers.community.elasticsearch import ElasticSearchContainer
from testcontainers.community.kafka import KafkaContainer
from testcontainers.community.postgres import PostgresContainer
from testcontainers.community.redis import RedisContainer
from testcontainers.core.config import ConnectionMode
from testcontainers.core.config import testcontainers_config as config
from testcontainers.core.container import DockerContainer

from local_stack import elasticsearch, kafka, postgres, redis
from local_stack.addresses import DATABASE, USER, assign_ports, bootstrap_servers, database_url, redis_url
from tests.servers.contract import ServerName
from tests.servers.images import read_images

LOOPBACK = "127.0.0.1"

START_SECONDS = 120
"""Elasticsearch on two shared cores; what is not there yet is pulled before."""

STOP_SECONDS = 30

TERMINATE_JAVA = 'for one in /proc/[0-9]*; do [[ $(readlink "$one/exe") == */java ]] && kill "${one##*/}"; done'

BROKER = {
    "AUTO_CREATE_TOPICS_ENABLE": "false",
    "MESSAGE_MAX_BYTES": str(kafka.MAX_MESSAGE_BYTES),
    "REPLICA_FETCH_MAX_BYTES": str(kafka.MAX_MESSAGE_BYTES),
    "OFFSETS_TOPIC_NUM_PARTITIONS": "4",
    "TRANSACTION_STATE_LOG_NUM_PARTITIONS": "4",
    "TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
    "TRANSACTION_STATE_LOG_MIN_ISR": "1",
    "BROKER_SESSION_TIMEOUT_MS": "4000",
    "BROKER_HEARTBEAT_INTERVAL_MS": "1000",
    "HEAP_OPTS": f"-Xms128m -Xmx{kafka.HEAP_MB}m",
}
"""Of local_stack/kafka.py, which says why."""

PASSWORD = secrets.token_urlsafe(24)

PROBLEMS: dict[ServerName, Callable[[int], str | None]] = {
    "kafka": kafka.problem,
    "postgres": partial(postgres.problem, password=PASSWORD),
    "redis": partial(redis.problem, password=PASSWORD),
    "elasticsearch": elasticsearch.problem,
}


class ContainerServers:
    """Starts all four; see `tests.servers.contract.Servers`. Raises what testcontainers or the daemon says if it can't.

    Should this process be killed, testcontainers' reaper removes them.
    """

    def __init__(self) -> None:
        # Ports are bound to this machine's loopback. Left to itself testcontainers guesses that it runs in a container,
        # and then asks at the bridge's address.
        config.connection_mode_override = ConnectionMode.docker_host
        config.tc_host_override = LOOPBACK
        self._images = read_images()
        names: dict[ServerName, str] = {name: f"{name.upper()}_PORT" for name in PROBLEMS}
        free = assign_ports(dict.fromkeys(names.values(), 0), environment={}, remembered={}, free=True)
        self._ports: dict[ServerName, int] = {name: free[variable] for name, variable in names.items()}
        self._containers: dict[ServerName, DockerContainer] = {
            "kafka": self._kafka(),
            "postgres": self._postgres(),
            "redis": self._redis(),
            "elasticsearch": self._elasticsearch(),
        }
        for name, container in self._containers.items():
            # A container that is stopped and started again would get another port, unless it is bound to one.
            container.ports = dict.fromkeys(container.ports, (LOOPBACK, self._ports[name]))  # type: ignore[arg-type]
        first: ServerName = "redis"
        others = [name for name in self._containers if name != first]
        try:
            # The first brings testcontainers' reaper with it, of which several at once would make several.
            self._start(first)
            with ThreadPoolExecutor(len(others)) as threads:
                list(threads.map(self._start, others))
        except BaseException:
            self.close()
            raise

    @property
    def description(self) -> str:
        return f"servers: containers ({', '.join(self._images[_image(name)] for name in self._containers)})"

    @property
    def addresses(self) -> dict[str, str]:
        ports = self._ports
        url = database_url(ports["postgres"], PASSWORD)
        return {
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers([ports["kafka"]]),
            "DATABASE_URL": url,
            "SUPERUSER_DATABASE_URL": url,  # the image makes its one role a superuser
            "REDIS_URL": redis_url(ports["redis"], PASSWORD),
            "ELASTICSEARCH_URL": f"http://127.0.0.1:{ports['elasticsearch']}",
        }

    def stop(self, name: ServerName) -> None:
        container = self._container(name)
        if name == "kafka":
            # Its first process is testcontainers' shell script, which keeps SIGTERM to itself.
            container.exec_run(["bash", "-c", TERMINATE_JAVA])
            container.wait(timeout=STOP_SECONDS)
        else:
            container.stop(timeout=STOP_SECONDS)

    def kill(self, name: ServerName) -> None:
        container = self._container(name)
        container.kill()
        container.wait(timeout=STOP_SECONDS)

    def start(self, name: ServerName) -> None:
        self._container(name).start()
        self._wait_until_well(name)

    def pause(self, name: ServerName) -> None:
        self._container(name).pause()

    def resume(self, name: ServerName) -> None:
        container = self._container(name)
        container.reload()
        if container.status == "paused":
            container.unpause()

    def close(self) -> None:
        for container in self._containers.values():
            container.stop()

    def _start(self, name: ServerName) -> None:
        container = self._containers[name]
        if isinstance(container, KafkaContainer):
            container.start(timeout=START_SECONDS)
        else:
            container.start()
        self._wait_until_well(name)

    def _wait_until_well(self, name: ServerName) -> None:
        deadline = time.monotonic() + START_SECONDS
        while (problem := PROBLEMS[name](self._ports[name])) is not None:
            if time.monotonic() > deadline:
                log = self._container(name).logs(tail=15).decode(errors="replace")
                raise AssertionError(f"{name} did not become healthy within {START_SECONDS} s: {problem}\n{log}")
            time.sleep(0.1)

    def _container(self, name: ServerName) -> Any:
        return self._containers[name].get_wrapped_container()

    def _kafka(self) -> DockerContainer:
        container = KafkaContainer(self._images[_image("kafka")]).with_kraft()
        for setting, value in BROKER.items():
            container.with_env(f"KAFKA_{setting}", value)
        return container

    def _postgres(self) -> DockerContainer:
        # Where it listens is the image's business.
        ours = {name: value for name, value in postgres.SETTINGS.items() if "listen" not in name and "unix" not in name}
        options = " ".join(f"-c {name}={value}" for name, value in ours.items())
        user, database = USER, DATABASE
        made = PostgresContainer(self._images["postgres"], username=user, password=PASSWORD, dbname=database)
        return made.with_command(f"postgres {options}").with_kwargs(shm_size="128m")

    def _redis(self) -> DockerContainer:
        options = f'--save "" --appendonly no --maxmemory {redis.MAX_MEMORY} --maxmemory-policy volatile-ttl'
        options += f" --user {redis.USER} on >{PASSWORD} ~* {redis.ALLOWED}"
        return RedisContainer(self._images["redis"]).with_command(f"redis-server {options}")

    def _elasticsearch(self) -> DockerContainer:
        heap = f"-Xms{elasticsearch.HEAP_MB}m -Xmx{elasticsearch.HEAP_MB}m"
        container = ElasticSearchContainer(self._images["elasticsearch"]).with_env("ES_JAVA_OPTS", heap)
        container.with_env("discovery.type", "single-node")
        return container.with_env("cluster.routing.allocation.disk.threshold_enabled", "false")


def _image(name: ServerName) -> str:
    return "kafka-in-tests" if name == "kafka" else name
