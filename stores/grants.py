"""Statements that make a user for each role of ours at Postgres, Redis and Kafka, and give it its rights.

Users are named `<prefix><role>`: `headrace_sink_postgres`. `python -m stores.grants > docs/rights.md` writes the page.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple, get_args

from sqlalchemy import text

from runtime.settings import Settings
from schemas.sinks import Kind
from schemas.topics import all_topics
from stores.advisory_locks import MIGRATION, lock_until_commit
from stores.postgres_engine import postgres_engine
from stores.rights import RIGHTS, VERSIONS, declared, tables_of
from stores.tables import all_tables, row_version

Server = Literal["postgres", "redis", "kafka"]

PREFIX = "headrace_"
"""Of the users' names, unless ROLE_USERS says otherwise."""


class KafkaRight(NamedTuple):
    """One operation on topics or on a group, each by its physical name; the group `*` is any."""

    resource: Literal["topic", "group"]
    names: tuple[str, ...]
    operation: Literal["Read", "Write", "Describe"]


def user_of(role: str, prefix: str = PREFIX) -> str:
    """The name of a role's user at every server. Pure."""
    return prefix + role.replace("-", "_")


def roles_at(server: Server) -> list[str]:
    """The roles that have a user at this server. Pure."""
    needed = {role: (rights.kafka, rights.tables, rights.redis.commands) for role, rights in RIGHTS.items()}
    place = ("kafka", "postgres", "redis").index(server)
    return [role for role, needs in needed.items() if needs[place]]


def postgres_users(database: str, prefix: str = PREFIX) -> list[str]:
    """Statements for an administrator, in our database: users without a password, who may connect. Idempotent. Pure."""
    quoted = '"' + database.replace('"', '""') + '"'
    statements = [f"REVOKE ALL ON DATABASE {quoted} FROM PUBLIC", "REVOKE CREATE ON SCHEMA public FROM PUBLIC"]
    for role in roles_at("postgres"):
        user = user_of(role, prefix)
        connect = "CONNECT, TEMPORARY" if RIGHTS[role].temporary else "CONNECT"
        exists = f"SELECT FROM pg_roles WHERE rolname = '{user}'"
        statements += [
            f"DO $$ BEGIN IF NOT EXISTS ({exists}) THEN CREATE ROLE {user}; END IF; END $$",
            f"ALTER ROLE {user} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE",
            f"GRANT {connect} ON DATABASE {quoted} TO {user}",
            f"GRANT USAGE ON SCHEMA public TO {user}",
        ]
    return statements


def table_grants(role: str, prefix: str = PREFIX) -> list[str]:
    """Statements for the tables' owner, after which the role's user has its rights on them and no others. Pure."""
    user = user_of(role, prefix)
    ours = ", ".join(f'"{table}"' for table in sorted({*all_tables().tables, VERSIONS}))
    statements = [f"REVOKE ALL ON {ours} FROM {user}", f"REVOKE ALL ON SEQUENCE {row_version.name} FROM {user}"]
    for rights, tables in _by_rights(tables_of(role)):
        names = ", ".join(f'"{table}"' for table in tables)
        statements.append(f"GRANT {rights} ON {names} TO {user}")
    if RIGHTS[role].versions:
        statements.append(f"GRANT USAGE ON SEQUENCE {row_version.name} TO {user}")
    return statements


async def grant_tables(settings: Settings) -> list[str]:
    """Give the users that there are their rights on the tables, as their owner; returns their names. Idempotent.

    All in one transaction, so that nobody is without in between. Raises what SQLAlchemy raises.
    """
    prefix = settings.role_users or PREFIX
    engine = postgres_engine(settings)
    try:
        async with engine.begin() as connection:
            await lock_until_commit(connection, MIGRATION)
            there = set((await connection.execute(text("SELECT rolname FROM pg_roles"))).scalars())
            given = [role for role in roles_at("postgres") if user_of(role, prefix) in there]
            for statement in (one for role in given for one in table_grants(role, prefix)):
                await connection.execute(text(statement))
    finally:
        await engine.dispose()
    return [user_of(role, prefix) for role in given]


def redis_users(settings: Settings, prefix: str = PREFIX) -> list[str]:
    """Commands that make users without a password, or give them other rights and leave the password. Pure.

    What a connection needs is allowed to all: AUTH, HELLO, PING, SELECT, CLIENT SETINFO.
    """
    commands = []
    for role in roles_at("redis"):
        rights = RIGHTS[role].redis
        keys = " ".join(f"~{settings.named(name)}:*" for name in rights.keys)
        allowed = " ".join(f"+{command.lower()}" for command in rights.commands)
        commands.append(
            f"ACL SETUSER {user_of(role, prefix)} on resetkeys resetchannels {keys} "
            f"-@all +@connection -@admin -@dangerous {allowed}"
        )
    return commands


def kafka_rights(role: str, settings: Settings) -> list[KafkaRight]:
    """The rights of a role's user: on topics of our registry, on its own group, maybe a look at all groups. Pure."""
    rights = RIGHTS[role].kafka

    def topics(*kinds: Kind) -> tuple[str, ...]:
        return tuple(settings.named(topic.name) for topic in all_topics() if topic.kind in kinds)

    found = [
        KafkaRight("topic", topics(*get_args(Kind)), "Describe"),
        KafkaRight("topic", topics(*rights.reads), "Read"),
        KafkaRight("topic", topics(*rights.writes), "Write"),
        KafkaRight("group", (settings.named(role),), "Read"),
        KafkaRight("group", ("*",) if rights.all_groups else (), "Describe"),
    ]
    return [right for right in found if right.names]


def kafka_users(settings: Settings, prefix: str = PREFIX) -> list[str]:
    """Lines for a shell that has kafka-acls.sh, and its address and login in $ADMIN. Pure."""
    return [
        f"kafka-acls.sh $ADMIN --add --allow-principal User:{user_of(role, prefix)} --operation {right.operation} "
        + " ".join(f"--{right.resource} '{name}'" for name in right.names)
        for role in roles_at("kafka")
        for right in kafka_rights(role, settings)
    ]


BEGIN = """# Rights of each role

A user for each role at Kafka, Postgres and Redis, with the rights that its work takes: `headrace rights` prints what
makes them ([security.md](security.md#rights) says how). `operator` is no process: people at the command line.

This page is written from `stores/rights.py`, by `python -m stores.grants`.
"""


def document() -> str:
    """The text of docs/rights.md. Pure."""
    return "\n".join([BEGIN, *_kafka_page(), *_postgres_page(), *_redis_page()])


def _kafka_page() -> Iterator[str]:
    yield "## Kafka\n"
    yield "These topics of each dataset; `Describe` on all of them, `Read` on the group that is named like the role.\n"
    yield "| role | Read | Write | all groups |\n| --- | --- | --- | --- |"
    for role in roles_at("kafka"):
        rights = RIGHTS[role].kafka
        groups = "Describe" if rights.all_groups else ""
        yield _row(f"`{role}`", ", ".join(rights.reads), ", ".join(rights.writes), groups)
    yield ""


def _postgres_page() -> Iterator[str]:
    yield "## Postgres\n"
    for role in roles_at("postgres"):
        more = [
            *(["`USAGE` on the sequence `row_version`"] if RIGHTS[role].versions else []),
            *(["`TEMPORARY` on the database"] if RIGHTS[role].temporary else []),
        ]
        yield f"### {role}\n\n| tables | may |\n| --- | --- |"
        for rights, names in _by_rights(declared(role)):
            yield _row(", ".join(name if name.startswith("(") else f"`{name}`" for name in names), rights)
        yield f"\nAnd {', '.join(more)}.\n" if more else ""


def _by_rights(tables: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for table, rights in tables.items():
        found.setdefault(rights, []).append(table)
    return sorted(found.items())


def _redis_page() -> Iterator[str]:
    yield "## Redis\n"
    yield "Keys begin with the namespace, where there is one. All may do what a connection needs (`AUTH`, `HELLO`,"
    yield "`PING`, `SELECT`, `CLIENT SETINFO`).\n"
    yield "| role | keys | commands |\n| --- | --- | --- |"
    for role in roles_at("redis"):
        rights = RIGHTS[role].redis
        keys = ", ".join(f"`{name}:*`" for name in rights.keys)
        yield _row(f"`{role}`", keys, ", ".join(f"`{one.replace('|', ' ')}`" for one in rights.commands))
    yield ""


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.stdout.write(document())
