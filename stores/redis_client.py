"""redis-py as our processes import it: without the metrics of OpenTelemetry's SDK, which it would load for nothing."""

import re

from runtime.lean_import import without

with without("opentelemetry.sdk.metrics"):
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import AuthenticationError, DataError, RedisError, ResponseError
    from redis.exceptions import ConnectionError as ConnectionLost

__all__ = [
    "AuthenticationError",
    "ConnectionLost",
    "DataError",
    "NoBackoff",
    "Redis",
    "RedisError",
    "ResponseError",
    "Retry",
    "redis_words",
]

_DENIED = re.compile(r"no permissions|ACL failure in script|The user executing the script")
"""In the words of the servers: to a command, to a script, and to a script by Redis 6."""


def redis_words(error: BaseException) -> str:
    """One line for people; of a missing right with the way out."""
    line = str(error) or type(error).__name__
    return f"{line}; `headrace rights redis` prints what each role may do" if _DENIED.search(line) else line
