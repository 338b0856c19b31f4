"""SQLAlchemy engines on Postgres, all made here."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from runtime.settings import Settings


def postgres_engine(settings: Settings, *, connect_args: dict[str, Any] | None = None, **options: Any) -> AsyncEngine:
    """An engine on DATABASE_URL; connects on first use. The options are those of create_async_engine.

    asyncpg reads the URL itself, as it does for our connections without SQLAlchemy: SQLAlchemy would hand over its
    options (`sslmode=verify-full`, `sslrootcert=…`) as arguments, which asyncpg does not know.
    """
    dsn = {"dsn": settings.plain_database_url}
    return create_async_engine("postgresql+asyncpg://", connect_args=dsn | (connect_args or {}), **options)
