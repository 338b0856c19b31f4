"""Structured logs of every process: JSON lines for machines, coloured lines on a terminal."""

import logging
import sys

import structlog

from runtime.settings import Settings

# Clients that print a line per connection attempt; our own processes log once per state change instead.
_CHATTY = (
    "aiokafka",
    "alembic",
    "asyncio",
    "elastic_transport",
    "faust",
    "httpcore",
    "httpx",
    "kafka",
    "mode",
    "uvicorn",
)


def configure_logging(settings: Settings, role: str) -> None:
    """Set up structlog and the standard library's logging to write to stderr; idempotent.

    Every line carries `role` and `worker`; `log_format` auto means console on a terminal, JSON otherwise.
    """
    level = logging.getLevelNamesMapping()[settings.log_level]
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if console
        else structlog.processors.JSONRenderer()
    )
    final: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    if not console:
        final.insert(0, structlog.processors.format_exc_info)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=final))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.ERROR))
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(role=role, worker=settings.worker_id)
