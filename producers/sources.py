"""`sources.toml`: every block becomes a source. Errors name file, block, setting, value, and what is allowed."""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from producers.api_source import ApiBlock
from producers.csv_source import CsvBlock
from producers.source import Source, SourceBlock, check_source_name
from runtime.settings import Settings

KINDS: Mapping[str, type[SourceBlock]] = {"api": ApiBlock, "csv": CsvBlock}
"""Every kind of source by its name; a new kind is one file and one entry."""

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class SourcesError(Exception):
    """sources.toml is missing or wrong; the message has a line per problem."""


def load_sources(path: Path, settings: Settings) -> dict[str, Source]:
    """The sources declared in a file, by name, in its order. Reads the file; opens no source. Raises SourcesError."""
    sources, problems = {}, []
    for name, values in _blocks(path).items():
        if name in KINDS:
            problems.append(f"[sources.{name}]: {name!r} is the name of a kind; choose another name")
            continue
        try:
            check_source_name(name)
            sources[name] = build_source(name, values, settings, path.parent)
        except SourcesError as error:
            problems.append(str(error))
        except ValueError as error:
            problems.append(f"[sources.{name}]: {error}")
    if problems:
        raise SourcesError("\n".join(f"{path}: {problem}" for problem in problems))
    return sources


def build_source(name: str, values: object, settings: Settings, folder: Path, where: str | None = None) -> Source:
    """The source of one block. Relative paths are relative to `folder`.

    Raises SourcesError with a line per problem; each begins with `where`, by default the block's name.
    """
    where = where or f"[sources.{name}]"
    if not isinstance(values, dict):
        raise SourcesError(f"{where}: expected a block of settings, got {values!r}")
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise SourcesError(f"{where} kind = {kind!r}: expected one of {', '.join(sorted(KINDS))}")
    try:
        block = KINDS[kind].model_validate(_expanded(values, _variables(settings)))
    except ValidationError as error:
        lines = [_problem(where, problem, KINDS[kind]) for problem in error.errors()]
        raise SourcesError("\n".join(lines)) from error
    except LookupError as error:
        raise SourcesError(f"{where} {error.args[0]}") from error
    return block.build(name, settings, folder)


def _blocks(path: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SourcesError(f"{path} does not exist: name a file with --sources or SOURCES_FILE") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SourcesError(f"{path} cannot be read: {error}") from error
    if unknown := sorted(content.keys() - {"sources"}):
        raise SourcesError(f"{path}: unknown table [{unknown[0]}]; sources are declared as [sources.NAME]")
    blocks = content.get("sources", {})
    if not isinstance(blocks, dict):
        raise SourcesError(f"{path}: sources = {blocks!r}: expected blocks [sources.NAME]")
    return blocks


def _variables(settings: Settings) -> Callable[[str], str | None]:
    host = settings.api_host or settings.mock_url
    own = {"MOCK_URL": settings.mock_url, "API_URL": settings.api_url, "API_HOST": host, "CSV_URL": settings.csv_url}
    return lambda name: own.get(name) or os.environ.get(name)


def _expanded(value: Any, variable: Callable[[str], str | None], where: str = "") -> Any:
    """`value` with every ${NAME} in its strings replaced. Raises LookupError for a name that is not set."""
    if isinstance(value, dict):
        return {k: _expanded(v, variable, f"{where}.{k}" if where else k) for k, v in value.items()}
    if isinstance(value, list):
        return [_expanded(item, variable, where) for item in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        found = variable(match[1])
        if found is None:
            raise LookupError(f"{where} = {value!r}: {match[1]} is not set; set it in the environment")
        return found

    return _VARIABLE.sub(replace, value)


def _problem(where: str, problem: Any, block: type[SourceBlock]) -> str:
    setting = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{where} {setting} is missing: a source of kind {_kind_of(block)} needs it"
    if problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1:
        known = sorted(field.alias or name for name, field in block.model_fields.items())
        return f"{where} {setting}: there is no such setting; known are {', '.join(known)}"
    if not setting:
        return f"{where}: {message}"
    return f"{where} {setting} = {problem['input']!r}: {message}"


def _kind_of(block: type[SourceBlock]) -> str:
    return next(kind for kind, model in KINDS.items() if model is block)
