"""`sources.toml`: every block becomes a source. Errors name file, block, setting, value, and what is allowed."""

import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from pydantic import ValidationError

from producers.block import SourceBlock
from producers.source import Source, check_source_name
from runtime.expansion import expanded
from runtime.server_addresses import redacted, without_secrets
from runtime.settings import ENV_FILE, Settings, read_variables
from schemas.source_kinds import SOURCE_KINDS

KINDS: dict[str, type[SourceBlock]] = {kind.name: resolve_name(kind.code) for kind in SOURCE_KINDS}

_IN_TOML = {
    "tuple_type": 'expected an array, such as ["a", "b"]',
    "dict_type": "expected a table, such as { name = … }",
    "model_type": "expected a table, such as { name = … }",
}
"""The types that are expected, in the words of the file instead of Python's."""

_SECRET = re.compile(r"secret|password")
"""Settings whose values are not for anybody's screen or log."""


class SourcesError(Exception):
    """sources.toml is missing or wrong, or a block of it is; the message has a line per problem."""


class DeclaredSources(dict[str, Source]):
    """The sources of a file, by name, in its order. Asked for one whose block is wrong it raises SourcesError."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: dict[str, str] = {}
        """Blocks that are no source, by name, with a line per problem. They harm no other block."""

    def __missing__(self, name: str) -> Source:
        if name in self.broken:
            raise SourcesError(self.broken[name])
        raise KeyError(name)


def load_sources(path: Path, settings: Settings) -> DeclaredSources:
    """The sources declared in a file. Reads it; opens no source. Raises SourcesError for a file that is no TOML."""
    sources = DeclaredSources()
    content = _content(path)
    for table in sorted(content.keys() - {"sources"}):
        sources.broken[table] = f"{path}: unknown table [{table}]; sources are declared as [sources.NAME]"
    blocks = content.get("sources", {})
    if not isinstance(blocks, dict):
        raise SourcesError(f"{path}: sources = {blocks!r}: expected blocks [sources.NAME]")
    for name, values in blocks.items():
        try:
            sources[name] = _declared(name, values, settings, path.parent)
        except SourcesError as error:
            sources.broken[name] = "\n".join(f"{path}: {problem}" for problem in str(error).splitlines())
    return sources


def sources_version(settings: Settings) -> object:
    """Another value whenever the sources file, or the `.env` that its blocks may refer to, has changed."""
    return [_state_of(file) for file in (settings.sources_file, ENV_FILE)]


def _state_of(file: Path) -> object:
    try:
        status = file.stat()
    except OSError as error:
        return str(error)
    return status.st_mtime_ns, status.st_size


def _declared(name: str, values: object, settings: Settings, folder: Path) -> Source:
    if name in KINDS:
        raise SourcesError(f"[sources.{name}]: {name!r} is the name of a kind; choose another name")
    try:
        check_source_name(name)
    except ValueError as error:
        raise SourcesError(f"[sources.{name}]: {error}") from error
    return build_source(name, values, settings, folder)


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
        block = KINDS[kind].model_validate(expanded(values, _variables(settings)))
    except ValidationError as error:
        lines = [_problem(where, problem, KINDS[kind]) for problem in error.errors()]
        raise SourcesError("\n".join(lines)) from error
    except LookupError as error:
        raise SourcesError(f"{where} {error.args[0]}") from error
    try:
        return block.build(name, settings, folder)
    except ValueError as error:
        raise SourcesError(f"{where} {error}") from error


def _content(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise SourcesError(f"{path} does not exist: name a file with --sources or SOURCES_FILE") from None
    except tomllib.TOMLDecodeError as error:
        why = f"{error}; correct it there: a file that is no TOML declares no source"
        raise SourcesError(f"{path} cannot be read: {why}") from error
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise SourcesError(f"{path} cannot be read: {error}") from error


def _variables(settings: Settings) -> Callable[[str], str | None]:
    host = settings.api_host or settings.mock_url
    own = {"MOCK_URL": settings.mock_url, "API_URL": settings.api_url, "API_HOST": host, "CSV_URL": settings.csv_url}
    given = read_variables()
    return lambda name: own.get(name) or given.get(name)


def _problem(where: str, problem: Any, block: type[SourceBlock]) -> str:
    setting = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{where} {setting} is missing: a source of kind {block.kind_name()} needs it"
    if problem["type"] == "extra_forbidden" and (known := _settings_of(block, problem["loc"][:-1])):
        return f"{where} {setting}: there is no such setting; known are {', '.join(known)}"
    message = _IN_TOML.get(problem["type"], message)
    if not setting:
        return f"{where}: {message}"
    return f"{where} {setting} = {_shown(setting, problem['input'])}: {message}"


def _settings_of(model: Any, path: Sequence[str]) -> list[str]:
    """The names of the settings in a block, or in a table within it; none where it is no model."""
    for part in path:
        field = getattr(model, "model_fields", {}).get(part)
        model = field and field.annotation
    return sorted(field.alias or name for name, field in getattr(model, "model_fields", {}).items())


def _shown(setting: str, value: object) -> str:
    if _SECRET.search(setting):
        return "(not shown)"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_shown(str(name), inner)}" for name, inner in value.items()) + "}"
    if setting == "url" and isinstance(value, str):
        value = redacted(value)
    return without_secrets(repr(value))
