"""A pipeline on servers that speak TLS only and let nobody in without a name and a secret, or a certificate."""

import asyncio
import hashlib
import hmac
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AclOperation, ResourcePatternType, ResourceType
from pydantic import SecretStr
from redis import Redis
from redis.exceptions import NoPermissionError, ResponseError
from structlog.testing import capture_logs

from monitoring.lag import read_lag
from runtime.errors import Backpressure
from runtime.kafka.clients import connection_config, open_aiokafka
from runtime.kafka.group_members import remove_members
from runtime.kafka.tokens import NoToken
from runtime.kafka.topic_admin import admin_client
from runtime.settings import Settings
from sinks.redis_invalidation import RedisInvalidationSink
from stores.cache import Invalidation
from stores.epochs import note_epochs
from stores.grants import PREFIX, KafkaRight, kafka_rights, roles_at, user_of
from stores.migrate import setup_schema
from stores.postgres_engine import postgres_engine
from stores.rights import OPERATOR, RIGHTS
from tests.processes import PROJECT, WORKERS, Pipeline, environment_of
from tests.servers.databases import run_async
from tests.servers.secured import NAMESPACE, PASSWORD, Right, Secured, let_in, secured_servers
from tests.waiting import eventually, wait_until_nothing_is_open

CUSTOMER = {"customer_id": "ADA", "first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.org"}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    home = tmp_path_factory.mktemp("secured")
    home.chmod(0o711)  # root's servers run as another user, who has to pass through
    with secured_servers(home) as found:
        headrace(found.by_password, "setup")
        yield found


def called(settings: Settings, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli", *words],
        cwd=PROJECT,
        env=os.environ | environment_of(settings),
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )


def headrace(settings: Settings, *words: str, given: str = "") -> str:
    done = called(settings, *words, given=given)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def without(settings: Settings, **changes: Any) -> Settings:
    return Settings(**{**settings.model_dump(), **changes})


def test_a_record_takes_its_whole_way(secured: Secured, tmp_path: Path) -> None:
    settings = secured.by_password
    with Pipeline(settings, tmp_path, ("api", "relay", *WORKERS)) as pipeline:
        said = headrace(settings, "push", "customers", "-", "--wait", given=json.dumps(CUSTOMER))
        assert "1 stored (inserted 1), 0 failed" in said
        with httpx.Client(base_url=pipeline["api"].url, trust_env=False, timeout=20.0) as api:
            for _ in range(2):  # from Postgres, then from the cache
                assert api.get("/api/customers/ADA").json()["last_name"] == "Lovelace"
            eventually(lambda: found(api)["total"] == 1, what="it is found in Elasticsearch")
            assert not found(api)["degraded"]
            health = api.get("/api/health").json()
            assert health["status"] == "healthy", health
            assert api.get("/lag").is_success
        assert "all accounted for" in headrace(settings, "audit", "--wait", "30")
        assert json.loads(headrace(settings, "lag", "--json"))


def found(api: httpx.Client) -> Any:
    return api.get("/search", params={"q": "lovelace", "dataset": "customers"}).json()


async def test_a_certificate_is_as_good_as_a_password(secured: Secured) -> None:
    rows = await read_lag(secured.by_certificate)
    assert {row.group for row in rows}
    await remove_members(secured.by_certificate, "normalizer", ["nobody"])


@pytest.mark.parametrize("change", [
    {"kafka_sasl_password": SecretStr("wrong")},
    {"kafka_ssl_ca_file": None},
    {"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_ssl_ca_file": None},
])  # fmt: skip
def test_kafka_lets_nobody_in_otherwise(secured: Secured, change: dict[str, Any]) -> None:
    admin = admin_client(without(secured.by_password, **change))
    with pytest.raises(KafkaException):
        admin.list_topics(timeout=3)


def test_plain_is_a_mechanism_too(secured: Secured) -> None:
    plain = without(secured.by_password, kafka_sasl_mechanism="PLAIN")
    assert admin_client(plain).list_topics(timeout=30).topics


def test_a_record_takes_its_whole_way_by_tokens_that_are_replaced(secured: Secured, tmp_path: Path) -> None:
    """Their life is shorter than the test, so whoever kept one would be shut out: librdkafka and aiokafka alike."""
    secured.tokens.lifetime = 30
    roles = ("api", *WORKERS)
    with Pipeline(secured.by_token, tmp_path, roles):
        for number in range(2):
            asked = len(secured.tokens.forms)
            record = json.dumps({**CUSTOMER, "customer_id": f"TOKEN{number}", "email": f"t{number}@example.org"})
            said = headrace(secured.by_token, "push", "customers", "-", "--wait", given=record)
            assert "1 stored (inserted 1), 0 failed" in said
            eventually(
                lambda: len(secured.tokens.forms) > asked + len(roles),  # noqa: B023
                what="every process has got another token",
                within=120,
            )
    assert {form["grant_type"] for form in secured.tokens.forms} == {"client_credentials"}


@pytest.mark.parametrize("change", [
    {"kafka_sasl_password": SecretStr("wrong")},
    {"kafka_sasl_username": "nobody"},
])  # fmt: skip
async def test_without_a_token_nobody_gets_in(secured: Secured, change: dict[str, Any]) -> None:
    others = without(secured.by_token, **change)
    with capture_logs() as logs, pytest.raises(KafkaException, match="token"):
        admin_client(others).list_topics(timeout=10)
    assert "invalid_client" in logs[0]["reason"]
    with pytest.raises(NoToken, match="invalid_client"):
        await open_aiokafka(others)


NOWHERE = "postgresql://nobody@127.0.0.1:9/none"


@pytest.fixture(scope="module")
def as_role(secured: Secured) -> Callable[[str], Settings]:
    """The settings of each role, once an administrator has run what `headrace rights` prints.

    A role that has no user at a server is given an address at which nothing is.
    """
    done = headrace(secured.by_password, "rights", "postgres")
    passwords = [f"ALTER ROLE {user_of(role)} PASSWORD '{PASSWORD}'" for role in roles_at("postgres")]
    run_async(execute(secured.postgres, done, *passwords, "CREATE ROLE headrace_stranger LOGIN PASSWORD 'x'"))
    with Redis.from_url(secured.redis) as redis:
        for line in headrace(secured.by_password, "rights", "redis").splitlines():
            redis.execute_command(*shlex.split(line))
        for role in roles_at("redis"):
            redis.acl_setuser(user_of(role), enabled=True, passwords=[f"+{PASSWORD}"])
    for role in roles_at("kafka"):
        let_in(secured.kafka, user_of(role), [binding(right, name) for right, name in kafka_names(role)])

    def settings_of(role: str) -> Settings:
        settings, user = secured.by_password, user_of(role)
        return without(
            settings,
            kafka_sasl_username=user,
            database_url=SecretStr(
                of_user(settings.plain_database_url, user) if role in roles_at("postgres") else NOWHERE
            ),
            redis_url=SecretStr(
                of_user(str(settings.plain_redis_url), user) if role in roles_at("redis") else "redis://127.0.0.1:9/0"
            ),
        )

    return settings_of


def of_user(url: str, user: str) -> str:
    """The address with another user, whose password is PASSWORD."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{user}:{quote(PASSWORD)}@{rest.rpartition('@')[2]}"


def kafka_names(role: str) -> list[tuple[KafkaRight, str]]:
    settings = Settings(headrace_namespace=NAMESPACE)
    return [(right, name) for right in kafka_rights(role, settings) for name in right.names]


def binding(right: KafkaRight, name: str) -> Right:
    kind = ResourceType.TOPIC if right.resource == "topic" else ResourceType.GROUP
    return kind, name, ResourcePatternType.LITERAL, AclOperation[right.operation.upper()]


async def execute(url: str, *statements: str) -> Any:
    """Run scripts in a connection; the last one's value."""
    connect: Any = asyncpg.connect
    try:
        connection = await connect(url)
    except asyncpg.PostgresError:
        await wait_until_nothing_is_open()
        raise
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()


def test_each_role_does_its_work_with_its_own_rights(
    secured: Secured, as_role: Callable[[str], Settings], tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({**CUSTOMER, "customer_id": "ROLE1", "email": "r1@example.org"}))
    (tmp_path / "sources.toml").write_text(
        '[sources.rows]\nkind = "jsonl"\npath = "rows.jsonl"\ndataset = "customers"\ninterval_seconds = 1\n'
        '[sources.customers_api]\nkind = "jsonl"\npath = "rows.jsonl"\ndataset = "customers"\n'
        f'[sources.shop]\nkind = "webhook"\ndataset = "records"\nsecret = "{WEBHOOK}"\n'
        'idempotency_header = "X-Delivery"\nmap = { source_id = "source_id", name = "name", value = "value" }\n'
    )
    pipeline = Pipeline(secured.by_password, tmp_path, ("api", "relay", "monitor", "scheduler", *WORKERS))
    for name, process in pipeline.processes.items():
        process.environment |= environment_of(as_role(name.replace(" ", "-")))
        process.environment["SOURCES_FILE"] = f"{tmp_path}/sources.toml"
    assert {name.replace(" ", "-") for name in pipeline.processes} == RIGHTS.keys() - {OPERATOR}
    # A tenth of a limit is what processes begin to tell each other of.
    pipeline["api"].environment["API_CHANGES_PER_MINUTE"] = "30"
    operator = as_role(OPERATOR)
    with pipeline, httpx.Client(base_url=pipeline["api"].url, trust_env=False, timeout=30.0) as api:
        headrace(operator, "push", "customers", "-", given=json.dumps({"customer_id": "ROLE2", "first_name": "Only"}))
        eventually(lambda: "ROLE2" in api.get("/failures/items").text, what="the failure is stored", within=120)
        assert api.post("/users/", json={"name": "Role Three", "email": "r3@example.org", "role": "admin"}).is_success
        for query, dataset in (("lovelace", "customers"), ("role three", "users")):
            eventually(lambda: searched(api, query, dataset), what=f"{query} is found", within=120)  # noqa: B023
        for _ in range(2):  # from Postgres, then from the cache
            assert api.get("/api/customers/ROLE1").is_success
        for path in ASKED:
            answer = api.get(path)
            assert answer.is_success, (path, answer.text)
        work_on_the_api(api)
        eventually(lambda: api.get("/api/customers/ROLE2").status_code == 404, what="the delete is through", within=120)
        for words in COMMANDS:
            headrace(operator, *(word.format(folder=tmp_path) for word in words))
        assert "all accounted for" in headrace(operator, "audit", "--wait", "60")
    assert not refused(tmp_path)
    with Redis.from_url(secured.redis, decode_responses=True) as redis:
        assert [entry for entry in redis.acl_log() if entry["username"].startswith(PREFIX)] == []
        used = {name.removeprefix("cmdstat_").upper() for name in redis.info("commandstats")}
        declared = {command for role in roles_at("redis") for command in RIGHTS[role].redis.commands}
        assert declared <= used, "no right is given that nobody needs"


WEBHOOK = "a secret that only we know"

ASKED = (
    *("/lag", "/overview", "/topics", "/trace/customers/ROLE1", "/topics/failures/messages", "/audit", "/alarms"),
    *("/runs", "/stats", "/schema-drift", "/failures", "/failures/jobs", "/orders/totals", "/data", "/users/"),
    *("/api/customers", "/lag/sink-postgres", "/lag/sink-postgres/history?hours=1", "/api/health", "/datasets"),
)

COMMANDS = (
    ("failures", "list"),
    ("prune",),
    ("stats",),
    ("export", "users", "--to", "{folder}"),
    ("keys", "create", "shop", "--scope", "read"),
    ("trace", "r4@example.org", "--dataset", "users"),
    ("reset", "customers_api", "--yes"),
    ("audit", "--deep", "--wait", "60"),
    ("forget", "ROLE2"),
)


def work_on_the_api(api: httpx.Client) -> None:
    """Change what can be changed by requests."""
    [failure] = api.get("/failures/items", params={"dataset": "customers"}).json()["data"]
    assert api.post(
        f"/failures/{failure['id']}/edit", json={"set": {"last_name": "Two", "email": "r2@example.org"}}
    ).is_success
    job = api.post(f"/failures/{failure['id']}/retry").headers["location"]
    eventually(lambda: api.get(job).json()["state"] == "done", what="the failure is sent again", within=120)
    eventually(lambda: api.get("/api/customers/ROLE2").is_success, what="it is stored", within=120)
    assert api.post("/api/ingest").json()["stored"] == 1
    body = b'{"source_id": "1", "name": "Pen", "value": 1}'
    signature = f"sha256={hmac.digest(WEBHOOK.encode(), body, hashlib.sha256).hex()}"
    sent = api.post("/webhooks/shop", content=body, headers={"X-Hub-Signature-256": signature, "X-Delivery": "1"})
    assert sent.status_code == 202, sent.text
    assert api.patch("/users/r3@example.org", json={"email": "r4@example.org"}).is_success
    assert api.delete("/api/customers/ROLE2").is_success  # which no source brings back every second


def refused(logs: Path) -> list[str]:
    """Lines of the processes' logs that tell of a right that one lacks."""
    said = ("uthoriz", "permission", "NOPERM", "must be owner")
    lines = [line for log in logs.glob("*.log") for line in log.read_text().splitlines()]
    return [line for line in lines if any(word in line for word in said)]


def searched(api: httpx.Client, query: str, dataset: str) -> bool:
    answer = api.get("/search", params={"q": query, "dataset": dataset}).json()
    return bool(answer["total"]) and not answer["degraded"]


@pytest.mark.parametrize(("role", "topic"), [("sink-landing", "customers.raw"), ("sink-redis", "customers.clean")])
def test_a_role_writes_to_no_other_topic(as_role: Callable[[str], Settings], role: str, topic: str) -> None:
    reports: list[KafkaError | None] = []
    producer = Producer(connection_config(as_role(role)))
    producer.produce(f"{NAMESPACE}.{topic}", b"forged", on_delivery=lambda error, _: reports.append(error))
    producer.flush(60)
    assert [error and error.code() for error in reports] == [KafkaError.TOPIC_AUTHORIZATION_FAILED]


EVERYBODY_WITH_TABLES = [(role, "CREATE TABLE mine (id int)") for role in roles_at("postgres")] + [
    (role, "DROP TABLE customers") for role in roles_at("postgres")
]


@pytest.mark.parametrize(("role", "statement"), [
    *EVERYBODY_WITH_TABLES,
    ("api", "DELETE FROM customers"),
    ("api", "TRUNCATE customers"),
    ("api", "UPDATE customers SET email = 'x'"),
    ("api", "INSERT INTO api_keys (id, name, digest, scopes) VALUES ('0', 'mine', '', '{operate}')"),
    ("api", "UPDATE api_keys SET scopes = '{operate}'"),
    ("api", "DELETE FROM ingest_failures"),
    ("api", "SELECT hash FROM forgotten"),
    ("sink-postgres", "SELECT digest FROM api_keys"),
    ("sink-postgres", "SELECT * FROM users"),
    ("sink-postgres", "TRUNCATE customers"),
    ("sink-postgres", "SELECT payload FROM raw_api_data"),
    ("sink-landing", "SELECT email FROM customers"),
    ("sink-landing", "UPDATE raw_api_data SET payload = ''"),
    ("sink-landing", "DELETE FROM raw_csv_data"),
    ("relay", "SELECT * FROM users"),
    ("relay", "UPDATE outbox SET event = ''"),
    ("scheduler", "UPDATE ingest_failures SET payload = ''"),
    ("relay", "INSERT INTO outbox (dataset, key, version, event) VALUES ('users', 'x', 1, '')"),
    ("scheduler", "SELECT email FROM customers"),
    ("scheduler", "DELETE FROM customers"),
    ("monitor", "SELECT payload FROM ingest_failures"),
    ("monitor", "DELETE FROM coverage"),
    ("operator", "ALTER TABLE customers ADD COLUMN mine int"),
    ("operator", "CREATE ROLE mine"),
])  # fmt: skip
async def test_a_role_does_nothing_else_in_postgres(
    as_role: Callable[[str], Settings], role: str, statement: str
) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match=r"permission denied|must be owner"):
        await execute(as_role(role).plain_database_url, statement)


@pytest.mark.usefixtures("as_role")
@pytest.mark.parametrize("user", [*map(user_of, ("normalizer", "sink-elasticsearch", "sink-redis", "dashboard"))])
async def test_who_needs_no_table_has_no_user_in_postgres(secured: Secured, user: str) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await execute(of_user(secured.by_password.plain_database_url, user), "SELECT 1")


@pytest.mark.usefixtures("as_role")
async def test_strangers_on_the_server_do_not_get_into_our_database(secured: Secured) -> None:
    url = of_user(secured.by_password.plain_database_url, "headrace_stranger").replace(quote(PASSWORD), "x")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied for database"):
        await execute(url, "SELECT 1")


@pytest.mark.parametrize("role", roles_at("redis"))
@pytest.mark.parametrize("command", [
    "FLUSHALL", "FLUSHDB", "CONFIG GET *", "KEYS *", "ACL LIST", "MONITOR", "SHUTDOWN NOSAVE",
    "CLIENT LIST", "SUBSCRIBE x", "PUBLISH x y", "SET shop.cache:customers:X y", "EVAL return 0",
    "HGET elsewhere.cache:customers:X data", "HGET shop.other:X data", "HMGET cache:customers:X data",
])  # fmt: skip
def test_a_role_does_nothing_else_in_redis(as_role: Callable[[str], Settings], role: str, command: str) -> None:
    with (
        Redis.from_url(str(as_role(role).plain_redis_url)) as redis,
        pytest.raises(NoPermissionError),
    ):
        redis.execute_command(*command.split())


def test_a_script_may_do_no_more_than_its_user(as_role: Callable[[str], Settings]) -> None:
    with Redis.from_url(str(as_role("sink-redis").plain_redis_url)) as redis:
        for script in ("return redis.call('FLUSHALL')", "return redis.call('HGETALL', 'shop.requests:x')"):
            with pytest.raises(ResponseError, match=r"permission|executing the script"):
                redis.evalsha(redis.script_load(script), 0)


async def test_a_sink_without_its_right_in_redis_holds_its_batch_and_names_the_way_out(
    secured: Secured,
    as_role: Callable[[str], Settings],
) -> None:
    with Redis.from_url(secured.redis) as redis:
        commands = ["-@all", "+@connection", "+evalsha", "+script|load"]
        redis.acl_setuser("lacking", enabled=True, keys=["*"], passwords=[f"+{PASSWORD}"], commands=commands)
    operator = as_role(OPERATOR)
    lacking = without(operator, redis_url=SecretStr(of_user(str(operator.plain_redis_url), "lacking")))
    for settings in (operator, lacking):  # refused the script, and a command in it
        sink = RedisInvalidationSink(settings)
        with pytest.raises(Backpressure, match=r"(?i)permission.*`headrace rights redis`"):
            await sink.write([Invalidation("customers", "X", 1)])
        await sink.close()


def test_a_command_without_its_right_ends_with_the_way_out(as_role: Callable[[str], Settings]) -> None:
    done = called(as_role("relay"), "stats")
    assert done.returncode == 1
    assert "permission denied for table etl_runs" in done.stderr
    assert "`headrace rights postgres`" in done.stderr
    assert "Traceback" not in done.stderr
    assert quote(PASSWORD) not in done.stderr


async def test_a_new_table_is_made_and_its_rights_are_given_by_set_up_alone(
    secured: Secured, as_role: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, landing, api = secured.by_password, as_role("sink-landing"), as_role("api").plain_database_url
    await execute(owner.plain_database_url, "DROP TABLE orders", "GRANT DELETE ON customers TO headrace_api")
    with pytest.raises(Backpressure, match="permission denied for schema public; `headrace setup`, as the owner"):
        await setup_schema(landing)
    monkeypatch.setenv("ROLE_USERS", PREFIX)
    assert "rights of headrace_sink_postgres" in await asyncio.to_thread(headrace, owner, "setup")
    await setup_schema(landing)
    assert await execute(api, "SELECT count(*) FROM orders") == 0
    with pytest.raises(asyncpg.InsufficientPrivilegeError):  # what somebody gave beside is taken
        await execute(api, "DELETE FROM customers")


def test_the_rights_reach_no_further_than_the_namespace(secured: Secured) -> None:
    others = without(secured.by_password, headrace_namespace="elsewhere")
    done = called(others, "setup")
    assert done.returncode == 1
    assert "authorization failed" in done.stderr.lower()
    assert PASSWORD not in done.stdout + done.stderr


@pytest.mark.parametrize(("options", "problem"), [
    ("sslmode=disable", "no encryption"),
    ("sslmode=verify-full", "root.crt"),
])  # fmt: skip
async def test_postgres_is_asked_as_the_url_says(secured: Secured, options: str, problem: str) -> None:
    url = secured.by_password.plain_database_url.partition("?")[0]
    engine = postgres_engine(without(secured.by_password, database_url=SecretStr(f"{url}?{options}")))
    with pytest.raises(Exception, match=problem):
        async with engine.connect():
            pass
    await engine.dispose()


@pytest.mark.parametrize("role", ["sink-postgres", "sink-landing", "scheduler", "api"])
async def test_whoever_meets_a_topic_first_that_was_created_again_may_begin_its_epoch(
    secured: Secured, as_role: Callable[[str], Settings], role: str
) -> None:
    owner = secured.by_password
    await asyncio.to_thread(headrace, owner, "push", "customers", "-", given=json.dumps(CUSTOMER))
    epochs = "SELECT count(*) FROM topic_epochs WHERE topic LIKE '%customers.raw'"
    before = await execute(owner.plain_database_url, epochs)
    await execute(owner.plain_database_url, "UPDATE topic_epochs SET topic_id = 'of the one before'", "SELECT 1")
    await note_epochs(as_role(role))
    assert await execute(owner.plain_database_url, epochs) == before + 1
