"""The four servers as a team has them on its network: TLS everywhere, nobody gets in without a name and a secret.

Kafka and Postgres are the real ones with TLS of their own. The builds of Redis and Elasticsearch that can be had here
have none, so a relay in front of them ends it; before Elasticsearch the relay asks for the API key, too.
"""

import asyncio
import hashlib
import ssl
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import asyncpg
import trustme
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import SecretStr

from local_stack.addresses import DEFAULT_PORTS, plain
from local_stack.installations import build_servers, find_installations
from local_stack.kafka import Kafka
from local_stack.postgres import Postgres
from local_stack.redis import Redis
from local_stack.server import Server
from local_stack.servers import RunningServers
from local_stack.unprivileged import delete_data_folder, make_data_folder, show
from runtime.settings import Settings
from tests.processes import free_port
from tests.servers.databases import run_async
from tests.servers.token_endpoint import AUDIENCE, TokenEndpoint, serving
from tests.waiting import wait_until_nothing_is_open

USER, PASSWORD, API_KEY = "headrace", "correct horse battery", "aWQ6c2VjcmV0"
NAMESPACE = "shop"
FORGET_SECRET = "of at least thirty-two characters"
ADMINISTRATOR = "administrator"

OAUTH = "org.apache.kafka.common.security.oauthbearer"
OAUTH_URLS = "org.apache.kafka.sasl.oauthbearer.allowed.urls"


@dataclass(frozen=True)
class Certificates:
    """Files in PEM: whom to trust, the servers' own certificate with its key, and a client's for `CN=headrace`."""

    authority: Path
    server: Path
    client: Path
    client_key: Path


def make_certificates(folder: Path) -> Certificates:
    """An authority and what it has signed; valid for 127.0.0.1."""
    authority = trustme.CA()
    files = Certificates(*(folder / f"{name}.pem" for name in ("authority", "server", "client", "client-key")))
    authority.cert_pem.write_to_path(files.authority)
    server = authority.issue_cert("127.0.0.1", "localhost")
    files.server.write_bytes(_key(server) + server.cert_chain_pems[0].bytes())
    client = authority.issue_cert("client.example.org", common_name=USER)
    client.cert_chain_pems[0].write_to_path(files.client)
    files.client_key.write_bytes(_key(client))
    for file in (files.authority, files.server, files.client, files.client_key):
        show(file)
    return files


def _key(certificate: trustme.LeafCert) -> bytes:
    """Its key as PKCS 8, the one form that Kafka reads."""
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass(frozen=True)
class SecuredKafka(Kafka):
    """A broker with two more listeners, by password and by certificate. On both everybody may do what ACLs allow."""

    by_password: int = 0
    by_certificate: int = 0
    certificates: Certificates = field(default=None)  # type: ignore[assignment]
    tokens: TokenEndpoint = field(default=None)  # type: ignore[assignment]

    def properties(self) -> dict[str, str]:
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        plain = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
        by_token = "listener.name.sasl_ssl.oauthbearer"
        ours = super().properties()
        return ours | {
            "listeners": f"{ours['listeners']},SASL_SSL://127.0.0.1:{self.by_password},"
            f"SSL://127.0.0.1:{self.by_certificate}",
            "advertised.listeners": f"{ours['advertised.listeners']},SASL_SSL://127.0.0.1:{self.by_password},"
            f"SSL://127.0.0.1:{self.by_certificate}",
            "listener.security.protocol.map": f"{ours['listener.security.protocol.map']},SASL_SSL:SASL_SSL,SSL:SSL",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.certificates.server),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.certificates.authority),
            "ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/,DEFAULT",
            "listener.name.ssl.ssl.client.auth": "required",
            "listener.name.sasl_ssl.sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN,OAUTHBEARER",
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": scram,
            "listener.name.sasl_ssl.plain.sasl.jaas.config": plain,
            f"{by_token}.sasl.jaas.config": f"{OAUTH}.OAuthBearerLoginModule required;",
            f"{by_token}.sasl.server.callback.handler.class": f"{OAUTH}.OAuthBearerValidatorCallbackHandler",
            f"{by_token}.sasl.oauthbearer.jwks.endpoint.url": self.tokens.jwks_url,
            f"{by_token}.sasl.oauthbearer.expected.audience": AUDIENCE,
            f"{by_token}.sasl.oauthbearer.expected.issuer": self.tokens.url,
            f"{by_token}.connections.max.reauth.ms": "3600000",  # a token's own end comes first
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",  # whoever comes by the listener without TLS: the broker itself, this test
        }

    def _java(self, *options: str) -> list[str]:
        return super()._java(f"-D{OAUTH_URLS}={self.tokens.jwks_url}", *options)


@dataclass(frozen=True)
class SecuredPostgres(Postgres):
    """It lets in by TLS only, and every role that has a password."""

    certificate: Path = Path()

    def prepare(self) -> None:
        super().prepare()
        self._access.write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")

    def command(self) -> list[str]:
        # Postgres insists on a key that only its own user reads.
        key = self.certificate
        return [*super().command(), "--ssl=on", f"--ssl_cert_file={key}", f"--ssl_key_file={key}"]

    def problem(self) -> str | None:
        """By TLS; the stack's own has none."""

        async def asked() -> None:
            connection = await asyncpg.connect(plain(self.addresses()["DATABASE_URL"]), ssl="require")
            await connection.close()
            await wait_until_nothing_is_open()

        try:
            run_async(asked())
        except (OSError, asyncpg.PostgresError) as error:
            return str(error)
        return None


@dataclass(frozen=True)
class SecuredRedis(Redis):
    """It has an administrator, who makes users."""

    def configuration(self) -> str:
        digest = hashlib.sha256(self.password.encode()).hexdigest()
        return f"{super().configuration()}user {ADMINISTRATOR} on #{digest} ~* &* +@all\n"


class TlsRelay:
    """Ends TLS on a port of its own and passes everything on to another. With `key`, HTTP must carry that API key."""

    def __init__(self, port: int, certificate: Path, key: str | None = None) -> None:
        self.port = free_port()
        self._to, self._key = port, key
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate)
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> "TlsRelay":
        begun = asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._context)
        self._server = self._loop.run_until_complete(begun)
        self._thread = threading.Thread(target=self._loop.run_forever, name="tls-relay")
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        async def end() -> None:
            self._server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await wait_until_nothing_is_open()

        asyncio.run_coroutine_threadsafe(end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            begin = b""
            if self._key is not None:
                begin = await reader.readuntil(b"\r\n\r\n")
                if f"authorization: apikey {self._key}".lower().encode() not in begin.lower():
                    writer.write(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                    await writer.drain()
                    return
            there, to = await asyncio.open_connection("127.0.0.1", self._to)
            to.write(begin)
            try:
                await asyncio.gather(_pass(reader, to), _pass(there, writer))
            finally:
                to.close()
        writer.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@dataclass(frozen=True)
class Secured:
    """The settings with which a pipeline gets into Kafka by password, by certificate, and by token."""

    by_password: Settings
    by_certificate: Settings
    by_token: Settings
    tokens: TokenEndpoint
    kafka: str
    """The listener on which everybody may do everything."""
    postgres: str
    """The URL of its superuser, in our database."""
    redis: str
    """The URL of its administrator."""


@contextmanager
def secured_servers(home: Path) -> Iterator[Secured]:
    """Run all four. Data that is not under `home`, because root's servers can't enter that, is deleted at the end."""
    data, logs = home / "data", home / "logs"
    make_data_folder(data)
    logs.mkdir()
    certificates = make_certificates(data.resolve())
    with ExitStack() as stack:
        tokens = stack.enter_context(serving(TokenEndpoint(USER, PASSWORD)))
        servers = {server.name: server for server in _servers(data.resolve(), certificates, tokens)}
        running = RunningServers(list(servers.values()), logs)
        stack.callback(lambda: delete_data_folder(data) if data.is_symlink() else None)
        stack.callback(running.close)
        running.start()
        kafka, redis = servers["kafka"], servers["redis"]
        assert isinstance(kafka, SecuredKafka)
        assert isinstance(redis, Redis)
        let_in(f"127.0.0.1:{kafka.port}", USER, ONE_USER)
        elasticsearch = int(running.addresses["ELASTICSEARCH_URL"].rpartition(":")[2])
        cache = stack.enter_context(TlsRelay(redis.port, certificates.server))
        search = stack.enter_context(TlsRelay(elasticsearch, certificates.server, API_KEY))
        encrypted = f"?sslmode=verify-full&sslrootcert={certificates.authority}"
        anywhere: dict[str, Any] = {
            "headrace_home": home,
            "headrace_namespace": NAMESPACE,
            "api_access": "open",
            "personal_data": "shown",
            "forget_secret": FORGET_SECRET,
            "kafka_ssl_ca_file": certificates.authority,
            "database_url": plain(running.addresses["DATABASE_URL"]) + encrypted,
            "redis_url": f"rediss://{USER}:{redis.password}@127.0.0.1:{cache.port}/0"
            f"?ssl_ca_certs={certificates.authority}",
            "elasticsearch_url": f"https://127.0.0.1:{search.port}",
            "elasticsearch_api_key": API_KEY,
            "elasticsearch_ca_file": certificates.authority,
        }
        yield Secured(
            Settings(
                **anywhere,
                kafka_bootstrap_servers=f"127.0.0.1:{kafka.by_password}",
                kafka_security_protocol="SASL_SSL",
                kafka_sasl_mechanism="SCRAM-SHA-512",
                kafka_sasl_username=USER,
                kafka_sasl_password=SecretStr(PASSWORD),
            ),
            Settings(
                **anywhere,
                kafka_bootstrap_servers=f"127.0.0.1:{kafka.by_certificate}",
                kafka_security_protocol="SSL",
                kafka_ssl_certificate_file=certificates.client,
                kafka_ssl_key_file=certificates.client_key,
            ),
            Settings(
                **anywhere,
                kafka_bootstrap_servers=f"127.0.0.1:{kafka.by_password}",
                kafka_security_protocol="SASL_SSL",
                kafka_sasl_mechanism="OAUTHBEARER",
                kafka_sasl_username=USER,
                kafka_sasl_password=SecretStr(PASSWORD),
                kafka_sasl_token_url=f"{tokens.url}/token",
            ),
            tokens,
            f"127.0.0.1:{kafka.port}",
            plain(running.addresses["SUPERUSER_DATABASE_URL"]) + encrypted,
            f"redis://{ADMINISTRATOR}:{redis.password}@127.0.0.1:{redis.port}/0",
        )


def _servers(data: Path, certificates: Certificates, tokens: TokenEndpoint) -> list[Server]:
    """The local stack's four, two of them as they are where TLS is in them."""
    ports = {name: free_port() for name in DEFAULT_PORTS}
    passwords = {"postgres": PASSWORD.replace(" ", "-"), "redis": PASSWORD.replace(" ", "-")}
    servers: list[Server] = []
    found = build_servers(find_installations(), data, ports, passwords, superuser_password=passwords["postgres"])
    for server in found:
        if isinstance(server, Kafka):
            own_ports: dict[str, Any] = {"by_password": free_port(), "by_certificate": free_port()}
            servers.append(SecuredKafka(**_fields(server), **own_ports, certificates=certificates, tokens=tokens))
        elif isinstance(server, Postgres):
            servers.append(SecuredPostgres(**_fields(server), certificate=certificates.server))
        elif isinstance(server, Redis):
            servers.append(SecuredRedis(**_fields(server)))
        else:
            servers.append(server)
    return servers


def _fields(server: Kafka | Postgres | Redis) -> dict[str, Any]:
    return {one.name: getattr(server, one.name) for one in fields(server)}


Right = tuple[ResourceType, str, ResourcePatternType, AclOperation]

ONE_USER: Sequence[Right] = [
    *(
        (ResourceType.TOPIC, f"{NAMESPACE}.", ResourcePatternType.PREFIXED, operation)
        for operation in (
            AclOperation.READ,
            AclOperation.WRITE,
            AclOperation.CREATE,
            AclOperation.DESCRIBE,
            AclOperation.ALTER,
            AclOperation.DESCRIBE_CONFIGS,
            AclOperation.ALTER_CONFIGS,
        )
    ),
    *(
        (ResourceType.GROUP, f"{NAMESPACE}.", ResourcePatternType.PREFIXED, operation)
        for operation in (AclOperation.READ, AclOperation.DESCRIBE)
    ),
]
"""Rights that docs/security.md says a pipeline needs as one user, no more."""


def let_in(kafka: str, user: str, rights: Iterable[Right]) -> None:
    """Make a user with PASSWORD and these rights. `kafka` is the listener on which everybody may do everything."""
    admin = AdminClient({"bootstrap.servers": kafka})
    scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    made = UserScramCredentialUpsertion(user, scram, PASSWORD.encode())
    for done in admin.alter_user_scram_credentials([made]).values():
        done.result()
    bindings = [
        AclBinding(kind, name, pattern, f"User:{user}", "*", operation, AclPermissionType.ALLOW)
        for kind, name, pattern, operation in rights
    ]
    for done in admin.create_acls(bindings).values():
        done.result()
