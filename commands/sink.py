"""`headrace sink NAME`: the consumers that bring topics into the stores, a command for each that is declared."""

import typer

from commands.output import stderr
from rehearsals.sinks import rehearsed_sink
from runtime.logging import configure_logging
from runtime.settings import load_settings
from runtime.tracing import start_tracing
from schemas.sinks import SINKS, sink_named
from sinks.runner import run_sink

sink = typer.Typer(no_args_is_help=True, help="Run one of the sinks until it is stopped. `headrace up` runs all.")


def _run(context: typer.Context) -> None:
    declared = sink_named(context.info_name or "")
    settings = load_settings()
    configure_logging(settings, declared.group)
    start_tracing(settings, declared.group)
    if declared.needs in settings.absent_stores:
        stderr.print(
            f"{declared.needs.upper()}_URL is `none`: {declared.without}. "
            f"Set it to the URL of {declared.needs.title()} and start this again; it catches up from the topics.",
            markup=False,
        )
        return
    run_sink(rehearsed_sink(declared, settings), settings)


for _declared in SINKS:
    _example = f"HEALTH_PORT=8101 headrace sink {_declared.name}"
    sink.command(_declared.name, help=f"{_declared.does}\n\nExample:\n\n  {_example}")(_run)
