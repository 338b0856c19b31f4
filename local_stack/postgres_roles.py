"""Who may do what in the local Postgres: one role for us, which is no superuser, and who gets in by which way. Pure."""

USER = DATABASE = "headrace"

SUPERUSER = "headrace_superuser"
"""Owns the cluster. It can't log in: there is no way in for it, and it has no password."""


def access_rules(*, superuser: bool) -> str:
    """The content of pg_hba.conf. With `superuser`, for tests, that role gets in too."""
    roles = [USER, *([SUPERUSER] if superuser else [])]
    return "".join(f"host all {role} 127.0.0.1/32 scram-sha-256\n" for role in roles)


def set_up(password: str, superuser_password: str | None, *, new: bool) -> str:
    """Statements for single-user mode, in the database `postgres`: roles with their passwords, and our database.

    A cluster that isn't new may be one whose superuser had our name.
    """
    superuser = f"'{superuser_password}'" if superuser_password else "NULL"
    return _lines(
        f"""DO $$ BEGIN IF (SELECT rolname FROM pg_roles WHERE oid = 10) = '{USER}' THEN
            CREATE ROLE renaming SUPERUSER; SET SESSION AUTHORIZATION renaming;
            ALTER ROLE {USER} RENAME TO {SUPERUSER};
            SET SESSION AUTHORIZATION {SUPERUSER}; DROP ROLE renaming;
            END IF; END $$""",  # noqa: S608 (our own names, here and below)
        f"""DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{USER}') THEN
            CREATE ROLE {USER};
            END IF; END $$""",
        f"""ALTER ROLE {USER} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
            PASSWORD '{password}'""",
        f"ALTER ROLE {SUPERUSER} PASSWORD {superuser}",
        f"CREATE DATABASE {DATABASE} OWNER {USER}" if new else f"ALTER DATABASE {DATABASE} OWNER TO {USER}",
    )


def hand_over() -> str:
    """Statements for single-user mode, in our database: what the superuser had made in it becomes our role's."""
    ours = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
    of_an_extension = "EXISTS (SELECT FROM pg_depend d WHERE d.objid = {}.oid AND d.deptype = 'e')"

    def every(kind: str, name: str, rows: str, alias: str) -> str:
        return f"""DO $$ DECLARE one text; BEGIN
            FOR one IN SELECT {name} FROM {rows} AND NOT {of_an_extension.format(alias)} LOOP
            EXECUTE format('ALTER {kind} %s OWNER TO {USER}', one);
            END LOOP; END $$"""  # noqa: S608

    relations = f"pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relowner = 10 AND {ours}"
    routines = f"pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.proowner = 10 AND {ours}"
    types = f"""pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.typowner = 10 AND {ours}
        AND t.typtype IN ('e', 'd', 'r')"""
    return _lines(
        every("SCHEMA", "quote_ident(n.nspname)", f"pg_namespace n WHERE n.nspowner = 10 AND {ours}", "n"),
        every("TABLE", "c.oid::regclass", f"{relations} AND c.relkind IN ('r', 'p', 'v', 'm', 'f')", "c"),
        # Those that belong to a column went with their table.
        every("SEQUENCE", "c.oid::regclass", f"{relations} AND c.relkind = 'S'", "c"),
        every("ROUTINE", "p.oid::regprocedure", routines, "p"),
        every("TYPE", "t.oid::regtype", types, "t"),
    )


def _lines(*statements: str) -> str:
    """A statement per line, as single-user mode reads them."""
    return "".join(f"{' '.join(statement.split())}\n" for statement in statements)
