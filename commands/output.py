"""How commands speak: results on stdout, remarks and errors on stderr, JSON for scripts."""

from typing import Any, NoReturn

import msgspec
import typer
from rich.console import Console

stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a value as indented JSON, and nothing else, on stdout."""
    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def fail(message: str, code: int = 1) -> NoReturn:
    """Print what is wrong and what to do about it on stderr, and exit."""
    stderr.print("Error:", style="bold red", end=" ")
    stderr.print(message, markup=False)
    raise typer.Exit(code)
