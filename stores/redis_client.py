"""redis-py as our processes import it: without the metrics of OpenTelemetry's SDK, which it would load for nothing."""

from runtime.lean_import import without

with without("opentelemetry.sdk.metrics"):
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import AuthenticationError, DataError, NoPermissionError, RedisError, ResponseError
    from redis.exceptions import ConnectionError as ConnectionLost

__all__ = [
    "AuthenticationError",
    "ConnectionLost",
    "DataError",
    "NoBackoff",
    "NoPermissionError",
    "Redis",
    "RedisError",
    "ResponseError",
    "Retry",
]
