"""Every setting of every process, read once at its start and handed down frozen.

Values come from, strongest first: the process's environment, `.env` in the working directory, and the running
stack's own `stack.env` (written by `headrace up` into `HEADRACE_HOME`; `compose.env` with HEADRACE_STACK=docker), so a
command finds the stack it belongs to.
"""

import ipaddress
import os
import re
import socket
from collections.abc import Iterator
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from runtime.errors import SettingsError
from runtime.kafka.security import KafkaSecurity, Mechanism, Protocol, problem
from runtime.pem_files import check_pair, check_trusted
from runtime.private_hosts import is_address, private_hosts
from runtime.scopes import scopes_by_word
from runtime.server_addresses import check_http, check_kafka, check_postgres, check_redis, redacted, without_secrets

DEFAULT_HOME = ".headrace"
STACK_ENV = "stack.env"
COMPOSE_ENV = "compose.env"  # the same for the stack in containers

ENV_FILE = Path(".env")  # in the working directory

ROLE_USERS_FORM = r"^[a-z][a-z0-9_]{0,30}$"
"""A name that no server needs in quotes, and that leaves room for that of a role."""

ENV_ENCODING = "utf-8-sig"
"""UTF-8, with a byte order mark or without."""


def _is_postgres(value: SecretStr) -> SecretStr:
    check_postgres(value.get_secret_value())  # our driver is asyncpg, whatever it names
    return value


SHORTEST_SECRET = 32
"""Characters of a secret that hashes keys of people."""


def _is_an_address(value: str) -> str:
    check_http(value.partition("?")[0])
    return value


def _is_redis(value: SecretStr) -> SecretStr:
    check_redis(value.get_secret_value())
    return value


def _is_a_proxy(value: SecretStr) -> SecretStr:
    check_http(value.get_secret_value())
    return value


def _are_hosts(value: str) -> str:
    private_hosts(value)
    return value


def _is_an_api(value: str) -> str:
    if not _is_http(value):
        raise ValueError(
            "expected the base URL of the JSON API to read, such as http://127.0.0.1:5000; "
            "the address that our own API listens on is API_BIND"
        )
    return value.rstrip("/")


def _is_a_file(value: str) -> str:
    if "://" in value and not _is_http(value):
        raise ValueError("expected a path, or an address like https://host/file.csv")
    return value


def _is_http(value: str) -> bool:
    try:
        check_http(value.partition("?")[0])
    except ValueError:
        return False
    return True


def _is_encrypted_or_here(value: str) -> str:
    check_http(value.partition("?")[0])
    if urlsplit(value).scheme != "https" and urlsplit(value).hostname not in ("127.0.0.1", "localhost", "::1"):
        raise ValueError("expected https://, since whoever can change these keys on their way can make tokens")
    return value


def _maps_words(value: str) -> str:
    scopes_by_word(value)
    return value


def _are_networks(value: str) -> str:
    for part in listed(value):
        if ipaddress.ip_network(part).prefixlen == 0:
            raise ValueError(f"{part} is everybody, and then anybody may say that they are somebody else")
    return value


def _fits_a_header(value: SecretStr) -> SecretStr:
    key = value.get_secret_value()
    if not (key.isascii() and key.isprintable() and key == key.strip()):
        raise ValueError("expected printable ASCII without spaces around it: it is sent as an HTTP header")
    return value


def _is_there(value: Path) -> Path:
    if not os.path.isfile(value):  # noqa: PTH113 (Path's own raises where a folder may not be read)
        raise ValueError("there is no such file, or this user may not look into its folder")
    return value


def _is_bindable(value: str) -> str:
    name = value.strip("[]")
    if not (is_address(name) or _HOST.fullmatch(value)):
        raise ValueError("expected an address of this machine: 127.0.0.1, ::1, or 0.0.0.0 for all of IPv4")
    return name


def _are_origins(value: str) -> str:
    for origin in listed(value):
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"{origin!r} is no origin as browsers send it: https://app.example.org, in small letters and without a "
                "path; or *"
            )
    return value


def _are_host_names(value: str) -> str:
    for name in listed(value):
        if not _HOST.fullmatch(name.removeprefix("*.")) and name != "*":
            raise ValueError(f"{name!r} is no name of a host like pipeline.example.org, without scheme and port; or *")
    return value.lower()


_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")

LARGEST = 2**31 - 1
"""A number that every client and Postgres' INTEGER hold."""

A_CENTURY = 100 * 366
"""Days. Longer times end in overflows: of dates, of Kafka's and Redis' milliseconds, of Elasticsearch's nanoseconds."""

Port = Annotated[int, Field(ge=1, le=65535)]
Positive = Annotated[int, Field(ge=1, le=LARGEST)]
NotNegative = Annotated[int, Field(ge=0, le=LARGEST)]
Connections = Annotated[int, Field(ge=1, le=10_000)]
Seconds = Annotated[int, Field(ge=1, le=1_000_000)]
"""Up to eleven days: librdkafka's milliseconds end at 24."""
Hours = Annotated[int, Field(ge=1, le=A_CENTURY * 24)]
Days = Annotated[int, Field(ge=0, le=A_CENTURY)]
Interval = Annotated[float, Field(ge=0, le=A_CENTURY * 86_400.0)]
"""Seconds, and parts of one."""
KafkaServers = Annotated[str, AfterValidator(check_kafka)]
PostgresUrl = Annotated[SecretStr, AfterValidator(_is_postgres)]
RedisUrl = Annotated[SecretStr, AfterValidator(_is_redis)]
ElasticsearchUrl = Annotated[str, AfterValidator(partial(check_http, port_needed=True))]
BaseUrl = Annotated[str, AfterValidator(check_http)]
HttpUrl = Annotated[str, AfterValidator(_is_an_address)]
ProxyUrl = Annotated[SecretStr, AfterValidator(_is_a_proxy)]
ApiUrl = Annotated[str, AfterValidator(_is_an_api)]
FileAddress = Annotated[str, AfterValidator(_is_a_file)]
HeaderText = Annotated[SecretStr, AfterValidator(_fits_a_header)]
"""A secret that is sent in an HTTP header: a key, or a header of somebody else's."""
KeysUrl = Annotated[str, AfterValidator(_is_encrypted_or_here)]
ScopeWords = Annotated[str, AfterValidator(_maps_words)]
ForgetSecrets = Annotated[SecretStr, Field(min_length=SHORTEST_SECRET)]
ThereFile = Annotated[Path, AfterValidator(_is_there)]
Certificates = Annotated[Path, AfterValidator(check_trusted)]
Bindable = Annotated[str, AfterValidator(_is_bindable)]
Origins = Annotated[str, AfterValidator(_are_origins)]
HostNames = Annotated[str, AfterValidator(_are_host_names)]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

OR_NONE = BeforeValidator(lambda value: None if isinstance(value, str) and value.lower() == "none" else value)
IN_CAPITALS = BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value)
LIKE_ITS_HOST = AfterValidator(lambda value: socket.gethostname() if value == "auto" else value)


KAFKA_SECURITY = {
    "protocol": "kafka_security_protocol",
    "mechanism": "kafka_sasl_mechanism",
    "username": "kafka_sasl_username",
    "password": "kafka_sasl_password",
    "token_url": "kafka_sasl_token_url",
    "scope": "kafka_sasl_scope",
    "region": "aws_region",
    "ca_file": "kafka_ssl_ca_file",
    "certificate_file": "kafka_ssl_certificate_file",
    "key_file": "kafka_ssl_key_file",
    "key_password": "kafka_ssl_key_password",
}
"""The setting of each field of KafkaSecurity."""


class Settings(BaseSettings):
    """The settings; a variable has the field's name in capitals."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    # Where things are
    headrace_stack: Literal["native", "docker"] = "native"
    """The stack that commands are about: processes of this machine, or the containers of docker-compose.yml."""
    headrace_home: Path = Path(DEFAULT_HOME)
    kafka_bootstrap_servers: KafkaServers = "127.0.0.1:9092"
    database_url: PostgresUrl = SecretStr("postgresql://headrace@127.0.0.1:5432/headrace")
    redis_url: Annotated[RedisUrl | None, OR_NONE] = SecretStr("redis://127.0.0.1:6379/0")
    """None (the word `none`) where there is no Redis: reads then come from Postgres."""
    elasticsearch_url: Annotated[ElasticsearchUrl | None, OR_NONE] = "http://127.0.0.1:9200"
    """None (the word `none`) where there is no Elasticsearch: search then answers from Postgres."""
    api_url: BaseUrl = "http://127.0.0.1:8000"
    mock_url: BaseUrl = "http://127.0.0.1:5000"
    dashboard_url: Annotated[BaseUrl | None, OR_NONE] = None
    """`/` of the API sends browsers there; None (the word `none`) where there is no dashboard."""

    # How to get into servers of your own; the local stack's Kafka asks for nothing
    kafka_security_protocol: Annotated[Protocol, IN_CAPITALS] = "PLAINTEXT"
    kafka_sasl_mechanism: Annotated[Mechanism, IN_CAPITALS] | None = None
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_sasl_token_url: HttpUrl | None = None
    """Token endpoint for OAUTHBEARER; user and password are the client's id and secret there."""
    kafka_sasl_scope: str | None = None
    kafka_ssl_ca_file: Certificates | None = None
    """Certificates to trust; by default the system's."""
    kafka_ssl_certificate_file: ThereFile | None = None
    kafka_ssl_key_file: ThereFile | None = None
    kafka_ssl_key_password: SecretStr | None = None
    elasticsearch_api_key: HeaderText | None = None
    elasticsearch_ca_file: Certificates | None = None
    """The same for https:// addresses of Elasticsearch."""
    role_users: Annotated[str, Field(pattern=ROLE_USERS_FORM)] | None = None
    """Begins the names of the roles' users; with it the set-up gives those of Postgres their rights on the tables."""

    # Naming: set to run several pipelines on the same servers; it prefixes topics, groups, indices and cache keys.
    headrace_namespace: Annotated[str, Field(pattern=r"^[a-z0-9-]*$", max_length=40)] = ""

    # Sources
    sources_file: Path = Path("sources.toml")
    api_host: ApiUrl | None = None
    """Base URL of the JSON API that the `posts` source reads; the mock server by default."""
    api_key: HeaderText | None = None
    """Sent as `X-API-Key` to API sources that ask for it (`api_key = true` in their block)."""
    csv_url: FileAddress = "data/titanic.csv"
    """The CSV file that the `titanic` source reads: an http(s) address, or a path relative to `sources_file`."""
    private_hosts: Annotated[str, AfterValidator(_are_hosts)] = ""
    """Hosts and networks at private addresses that sources may be read from and alarms told to, separated by commas.
    `declared`: also those that a block names by an address, as `localhost` or by a name without a dot."""
    egress_proxy: ProxyUrl | None = None
    """A proxy for both, which then judges the addresses. HTTPS_PROXY of the environment is not used."""
    etl_interval: Interval = 0.0
    """Seconds between two scheduled runs of a source whose block has no `interval_seconds`; 0: it is not scheduled."""

    # Topics
    topic_partitions: Annotated[int, Field(ge=1, le=1000)] = 4
    topic_replication: Annotated[int, Field(ge=1, le=10)] = 1
    topic_retention_hours: Hours = 7 * 24
    raw_retention_hours: Hours | None = None
    """Of raw topics; None, as for those below: TOPIC_RETENTION_HOURS."""
    clean_retention_hours: Hours | None = None
    changed_retention_hours: Hours | None = None
    failures_retention_hours: Hours | None = None
    """Of the topic `failures`; None: four times TOPIC_RETENTION_HOURS."""

    # How many days tables are kept; 0: for ever. What is still needed stays whatever its age, see services/retention
    landing_retention_days: Days = 90
    failure_retention_days: Days = 90
    """Failures that have been dealt with, from then on."""
    run_retention_days: Days = 365
    drift_retention_days: Days = 365
    """Drifts that are over, from then on."""

    # Batches: a sink writes what has come. While more waits, it fills a batch up to one of the first two; while records
    # come fast, it waits up to `sink_batch_wait_ms` for more.
    sink_batch_records: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    sink_batch_bytes: Annotated[int, Field(ge=1, le=1_073_741_824)] = 8_388_608
    sink_batch_wait_ms: Annotated[int, Field(ge=1, le=60_000)] = 50

    # Publishing
    publish_timeout_seconds: Seconds = 120
    """Wait of a queued record for the broker's confirmation before its run fails."""

    # Checkpoints
    checkpoint_records: NotNegative = 500_000
    """Records of an API source whose content a checkpoint knows, at 16 bytes each (some 150 in a run's memory).
    Records beyond are sent in every run."""

    # Deletes
    tombstone_retention_hours: Hours = 7 * 24
    """Deletes are remembered so long, so that an older record which comes late does not undo one."""

    # Personal data
    personal_data: Literal["shown", "masked"] = "masked"
    """`masked`: commands, and callers of the API without a key, see it in no failure, topic, trace or drift."""
    forget_secret: ForgetSecrets | None = None
    """Key of the hashes by which `headrace forget` and the sinks know whom to forget. Of several, separated by commas,
    the first makes new hashes, and the others know those that they have made."""

    # Failures
    failure_limit_percent: Annotated[int, Field(ge=0, le=100)] = 90
    """A source is held, a run fails, or a sink stops when so large a share of the latest records failed; 0: never."""
    failure_limit_records: Positive = 1_000
    """Records that it takes to judge by: fewer may all fail."""
    replay_limit: Positive = 3
    """A record that has failed again this often is parked: it is not retried unless somebody insists."""

    # Rehearsals
    rehearsals: bool = False
    """Allows `headrace rehearse` to make this pipeline fail. Processes read it when they start."""

    # Watchdog
    watchdog_stall_seconds: NotNegative = 120
    """A worker or sink with lag that has committed nothing for so long is restarted; 0 switches the watchdog off."""

    # Alarms
    alarms_file: Path = Path("alarms.toml")
    """Rules of alarms and the webhooks to which they are sent; there are none without a file, unless one is named."""

    # Monitor
    lag_history_hours: Hours = 24
    """So long the monitor keeps the lag of every group by the minute, some 2 MB a day in Postgres."""

    # Cache
    cache_ttl_seconds: Seconds = 300
    cache_missing_ttl_seconds: Seconds = 10
    cache_floor_ttl_seconds: Seconds = 60
    """An invalidation refuses older fills so long; longer than any read of Postgres may take."""

    # Object stores, for exports
    object_store: Literal["auto", "local", "remote"] = "auto"
    """`auto`: s3://test-bucket is a folder of this machine where no credentials are set. `remote`: never, as on a
    machine whose role gives it credentials. `local`: every bucket, always."""
    object_store_dir: Path = Path("object-store")
    """The folder that stands in: a folder per bucket."""
    object_store_bucket: str = "test-bucket"
    """The bucket for the files of `python -m data.etl`."""
    aws_access_key_id: str | None = None
    aws_secret_access_key: SecretStr | None = None
    aws_session_token: SecretStr | None = None
    aws_region: str | None = None
    """AWS_DEFAULT_REGION, else us-east-1, unless set."""
    aws_endpoint_url: BaseUrl | None = None
    """Address of an S3-compatible server; Amazon's unless set."""

    # API
    api_bind: Bindable = "127.0.0.1"
    api_port: Port = 8000
    database_pool_min: Connections = 5
    database_pool_max: Connections = 20
    """Of one process; also where `database_pool_min` is more."""
    ingest_timeout_seconds: Annotated[Interval, Field(gt=0)] = 60.0
    cors_origins: Origins = ""
    """Origins whose pages may use the API from a browser, separated by commas; empty: none."""
    allowed_hosts: HostNames = ""
    """Names by which browsers reach the API, separated by commas; `*`: any. Addresses, `localhost` and names without a
    dot need none."""

    # Who may ask the API
    api_access: Literal["open", "keys"] = "keys"
    """`keys`: callers need a key or a token. `open`: nobody is asked; for loopback only, as on a local stack."""
    api_published_on: Bindable | None = None
    """The address on which others reach the API, where `api_bind` is only one within a container."""
    headrace_api_key: HeaderText | None = None
    """The key that the dashboard and commands send to our own API."""
    oidc_issuer: str | None = None
    """An OpenID Connect issuer whose tokens (JWT) are taken too, letter by letter as its tokens name it."""
    oidc_audience: str | None = None
    """The name by which its tokens mean this API."""
    oidc_jwks_url: KeysUrl | None = None
    """Where it publishes its keys."""
    oidc_scopes_claim: str = "scope"
    """The claim that says what a caller may do; dots lead into objects: realm_access.roles."""
    oidc_scopes: ScopeWords = ""
    """The scopes that the claim's words stand for: viewer=read,admin=read+write; by default headrace:read and so on."""

    # What they may ask for
    api_reads_per_minute: NotNegative = 60_000
    """Requests of a key, or without one of an address, within any minute; 0: as many as it likes."""
    api_changes_per_minute: NotNegative = 6_000
    api_expensive_per_minute: NotNegative = 3_000
    """The same for searches, looks into topics, traces, sums, histories and listings that count."""
    api_expensive_at_once: Positive = 8
    """Such reads that one process does at a time, at most half of its pool."""
    api_connections: Positive = 1_000
    """Of one process. One more takes the place of the one that has waited longest for its client."""
    api_idle_seconds: Seconds = 75
    """For so long a connection is kept between two requests: longer than the proxy before it keeps one (nginx and AWS
    60 s, Google Cloud 600), which else sends requests that nobody answers."""
    api_tls_certificate_file: ThereFile | None = None
    """PEM, with the chain: the API then speaks HTTPS."""
    api_tls_key_file: ThereFile | None = None
    """The certificate's key, PEM, without a password; unless it is in the certificate's file."""
    trusted_proxies: Annotated[str, AfterValidator(_are_networks)] = ""
    """Addresses and networks, separated by commas, whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed."""

    # Dashboard
    dashboard_bind: Bindable = "127.0.0.1"
    dashboard_port: Port = 8090
    dashboard_hosts: HostNames = ""
    """Names besides loopback's by which browsers may ask for it, separated by commas. Without any it listens on
    loopback only, since it asks nobody who they are."""

    # Mock server
    mock_bind: Bindable = "127.0.0.1"
    mock_port: Port = 5000
    mock_require_api_key: bool = False
    """The mock server answers customers only to requests that carry `api_key` as `X-API-Key`."""

    # Traces
    otel_exporter_otlp_endpoint: BaseUrl | None = None
    """Where OpenTelemetry's traces are sent, by OTLP over HTTP: a collector, or Jaeger. None: nothing is traced."""
    otel_exporter_otlp_traces_endpoint: BaseUrl | None = None
    """The same with its path, where that is not /v1/traces."""
    otel_sdk_disabled: bool = False

    # This process
    worker_id: Annotated[str, LIKE_ITS_HOST] = "0"
    """Static group membership: unique per role on all hosts, stable over restarts. `auto` becomes the host's name,
    which a container has to itself and keeps until it is removed."""
    health_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port on which the process answers `/health` and `/metrics`; 0 means none."""
    health_bind: Bindable = "127.0.0.1"
    """Address for it. Whoever reaches it can read both."""
    log_level: Annotated[LogLevel, IN_CAPITALS] = "INFO"
    log_format: Literal["auto", "json", "console"] = "auto"

    @model_validator(mode="after")
    def _kafka_security_is_complete(self) -> "Settings":
        given = {name: getattr(self, setting) for name, setting in KAFKA_SECURITY.items()}
        if found := problem(given, lambda name: KAFKA_SECURITY[name].upper()):
            raise ValueError(found)
        if self.kafka_ssl_certificate_file:
            password = self.kafka_ssl_key_password
            try:
                check_pair(
                    self.kafka_ssl_certificate_file,
                    self.kafka_ssl_key_file,
                    password.get_secret_value() if password else None,
                )
            except ValueError as error:
                raise ValueError(
                    f"KAFKA_SSL_CERTIFICATE_FILE={self.kafka_ssl_certificate_file}, "
                    f"KAFKA_SSL_KEY_FILE={self.kafka_ssl_key_file}: {error}"
                ) from None
        return self

    @model_validator(mode="after")
    def _issuer_is_complete(self) -> "Settings":
        names = ("oidc_issuer", "oidc_audience", "oidc_jwks_url")
        missing = [name.upper() for name in names if not getattr(self, name)]
        if 0 < len(missing) < len(names):
            raise ValueError(f"{', '.join(missing)}: needed with the other settings of the issuer of tokens, OIDC_…")
        return self

    @model_validator(mode="after")
    def _key_has_a_certificate(self) -> "Settings":
        if self.api_tls_key_file and not self.api_tls_certificate_file:
            raise ValueError("API_TLS_KEY_FILE is set and API_TLS_CERTIFICATE_FILE is not: HTTPS needs both")
        return self

    @property
    def forget_secrets(self) -> tuple[bytes, ...]:
        """The parts of `forget_secret`, newest first; none where it is not set. A part that is too short is none: it is
        one secret then, with a comma in it.
        """
        given = self.forget_secret.get_secret_value() if self.forget_secret else ""
        parts = listed(given)
        found = parts if all(len(part) >= SHORTEST_SECRET for part in parts) else [given]
        return tuple(part.encode() for part in found)

    @property
    def kafka_security(self) -> KafkaSecurity:
        """The way into Kafka of every client of ours."""
        return KafkaSecurity(**{name: getattr(self, setting) for name, setting in KAFKA_SECURITY.items()})

    @property
    def home(self) -> Path:
        """The state folder of the local stack."""
        return self.headrace_home

    @property
    def namespace(self) -> str:
        """The prefix of topics, groups, indices and cache keys; empty for none."""
        return self.headrace_namespace

    @property
    def absent_stores(self) -> tuple[str, ...]:
        """Redis, Elasticsearch, both or neither: those that this pipeline does without."""
        stores = {"redis": self.redis_url, "elasticsearch": self.elasticsearch_url}
        return tuple(store for store, url in stores.items() if url is None)

    @property
    def own_api_headers(self) -> dict[str, str]:
        """Headers for requests to our own API. They contain the key, if one is set."""
        key = self.headrace_api_key
        return {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}

    @property
    def plain_database_url(self) -> str:
        """The database URL without a driver, as asyncpg and psql take it. Contains the password."""
        _, _, rest = self.database_url.get_secret_value().partition("://")
        return f"postgresql://{rest}"

    @property
    def plain_redis_url(self) -> str | None:
        """The address of Redis as its client takes it. Contains the password."""
        return self.redis_url.get_secret_value() if self.redis_url else None

    def __repr_args__(self) -> Iterator[tuple[str | None, object]]:
        for name, value in super().__repr_args__():
            yield name, without_secrets(redacted(value)) if isinstance(value, str) and "://" in value else value

    def named(self, name: str) -> str:
        """A topic, group, index or cache name inside this pipeline's namespace."""
        return f"{self.namespace}.{name}" if self.namespace else name


def listed(value: str) -> list[str]:
    """The parts of a setting that is separated by commas."""
    return [part.strip() for part in value.split(",") if part.strip()]


def read_variables(folder: Path = Path()) -> dict[str, str]:
    """The variables of the environment, and those of the folder's `.env` that it lacks. An empty one is not set.

    Raises SettingsError for a `.env` that cannot be read.
    """
    layers = (read_env_file(folder / ENV_FILE), os.environ)
    return {name: value for layer in layers for name, value in layer.items() if value}


def read_env_file(file: Path) -> dict[str, str | None]:
    """The variables of a file, none where there is no file. Raises SettingsError, also for a line that is none."""
    try:
        text = file.read_text(ENV_ENCODING) if file.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file.absolute()} cannot be read: {error}; it is to be a text file in UTF-8") from error
    for line in parse_stream(StringIO(text)):
        if line.error:  # python-dotenv would leave it out, and name neither the file nor a way out
            before = len(line.original.string) - len(line.original.string.lstrip())
            number = line.original.line + line.original.string[:before].count("\n")
            raise SettingsError(
                f"{file.absolute()}, line {number}: expected NAME=value, a quoted value to its closing quote; mend it, "
                "or put # before it"
            )
    return dotenv_values(stream=StringIO(text))


def load_settings(**overrides: object) -> Settings:
    """Read the settings from the environment and the env files; `overrides` win over both.

    Raises SettingsError with a line per wrong variable.
    """
    given = {name.upper(): value for name, value in read_variables().items()}  # as Pydantic reads names
    home = Path(str(overrides.get("headrace_home") or given.get("HEADRACE_HOME") or DEFAULT_HOME))
    addresses = home / (COMPOSE_ENV if given.get("HEADRACE_STACK") == "docker" else STACK_ENV)
    read_env_file(addresses)
    try:
        return Settings(_env_file=(addresses, ENV_FILE), _env_file_encoding=ENV_ENCODING, **overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        lines = [_line(wrong["loc"], wrong["input"], wrong["msg"]) for wrong in error.errors()]
        raise SettingsError("Settings are wrong:\n  " + "\n  ".join(lines)) from error


def _line(place: tuple[int | str, ...], value: object, message: str) -> str:
    message = message.removeprefix("Value error, ")
    if not place:
        return message  # it is about several variables, and names them
    name = str(place[0])
    field = Settings.model_fields.get(name)
    secret = field is not None and "SecretStr" in str(field.annotation)
    is_address = isinstance(value, str) and ("://" in value or name.endswith(("_url", "_servers", "_host")))
    shown = without_secrets(redacted(str(value))) if is_address else value
    return f"{name.upper()}={'(hidden)' if secret else repr(shown)}: {message}"
