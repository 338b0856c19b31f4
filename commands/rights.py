"""`headrace rights SERVER`: the statements that make a user for each role, with its rights and no others."""

import re
from typing import Annotated
from urllib.parse import unquote, urlsplit

import typer

from commands.output import WRONG_USAGE, fail, stderr
from runtime.settings import ROLE_USERS_FORM, load_settings
from stores.grants import PREFIX, Server, kafka_users, postgres_users, redis_users, roles_at, table_grants

TO_DO = {
    "postgres": "Run this as an administrator in our database, after `headrace setup`; then give each user its "
    "password (\\password in psql). With ROLE_USERS={prefix} every later set-up gives them their rights on new tables.",
    "redis": "Run this as an administrator; then give each user its password: ACL SETUSER {prefix}api >PASSWORD. Keep "
    "them where your Redis keeps users (ACL SAVE, redis.conf, the cloud's own list).",
    "kafka": "Run this in a shell with kafka-acls.sh on PATH and ADMIN='--bootstrap-server … --command-config …'. The "
    "users themselves are made as your Kafka makes users.",
}


def rights(
    server: Annotated[Server, typer.Argument(help="Whose statements: postgres (SQL), redis, kafka (a shell's).")],
    prefix: Annotated[
        str | None, typer.Option(help=f"Begins the users' names; ROLE_USERS, or {PREFIX}, unless it is given.")
    ] = None,
) -> None:
    """Print the statements that make a user for each role of ours, with the rights that its work takes.

    Nothing is changed. They are idempotent: after an upgrade they give what is new, and take what is not needed now.

    Examples:

      headrace rights postgres | psql "$ADMIN_URL"

      headrace rights redis | redis-cli -u "$ADMIN_URL"

      headrace rights kafka | ADMIN="--bootstrap-server kafka:9092 --command-config admin.properties" sh
    """
    settings = load_settings()
    begin = prefix or settings.role_users or PREFIX
    if not re.fullmatch(ROLE_USERS_FORM, begin):
        fail(f"--prefix {begin!r}: small letters, digits and underscores, a letter first", WRONG_USAGE)
    stderr.print(TO_DO[server].format(prefix=begin), markup=False)
    if server == "postgres":
        address = urlsplit(settings.plain_database_url)
        database = unquote(address.path.strip("/")) or unquote(address.username or "")
        tables = [one for role in roles_at("postgres") for one in table_grants(role, begin)]
        lines = [f"{one};" for one in ("BEGIN", *postgres_users(database, begin), *tables, "COMMIT")]
    else:
        lines = redis_users(settings, begin) if server == "redis" else kafka_users(settings, begin)
    for line in lines:
        typer.echo(line)
