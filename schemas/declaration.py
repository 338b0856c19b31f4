"""Refuses what a dataset's declaration promises and the pipeline would not keep.

Pydantic never sees a record: the field types normalize, and the model only names and types the fields. So a constraint,
validator, alias or setting of Pydantic's would be ignored silently. Everything that is not known to be honoured is
refused when the declaration is loaded.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from schemas.errors import InvalidField
from schemas.fields import FieldType, TextColumn

_HONOURED = {"annotation", "default", "metadata", "alias_priority"}
_FOR_PEOPLE = {"title", "description", "examples", "deprecated"}
_PLAIN = FieldInfo()

_SETTINGS_FOR_PEOPLE = {"title", "use_attribute_docstrings"}

_HOOKS = ("__init__", "__new__", "model_post_init", "__get_pydantic_core_schema__", "__get_pydantic_json_schema__")

OWN_COLUMNS = frozenset(
    {"created_at", "updated_at", "search_text", "version", "raw_partition", "raw_offset", "raw_timestamp", "raw_moves"}
)
"""Columns that every dataset's table has beside its fields."""

SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})
"""Columns that Postgres gives every table."""

LONGEST_COLUMN = 63
"""Bytes of a column's name; Postgres cuts what is longer, and then two may be one."""

_NAME = re.compile("[a-z][a-z0-9_]{0,99}")
"""A dataset's name: of topics, of an index (one with a hyphen may be another one's, `customers-v1`), in an address."""

_TABLE = re.compile("(?!pg_|stage_)[a-z][a-z0-9_]{0,49}")
"""A table's name, which leaves room for those of its indexes. The prefixes are Postgres' own and the sinks'."""


class UnheededDeclaration(TypeError):
    """A dataset declares what the pipeline does not honour; the message names each such thing and the way out."""


def field_types(metadata: Sequence[Any]) -> list[FieldType]:
    """The field types among an annotation's metadata. Pure."""
    return [item for item in metadata if isinstance(item, FieldType)]


def unheeded(model: type[BaseModel]) -> list[str]:
    """Declarations about a model and its fields that would be ignored, a line each. Pure."""
    hints = get_type_hints(model, include_extras=True)
    lines = [f"{name}: {line}" for name, info in model.model_fields.items() for line in _of_field(hints[name], info)]
    return [*lines, *_of_model(model)]


def unfit_names(name: str, table: str) -> list[str]:
    """Names of a dataset and its table that a topic, an index or Postgres would not take, a line each. Pure."""
    rules = (
        ("name", name, _NAME, "a letter, then up to 99 letters, digits and _"),
        (
            "table",
            table,
            _TABLE,
            "a letter, then up to 49 letters, digits and _, and begin with neither pg_ nor stage_",
        ),
    )
    return [
        f"{what}: {given!r} is to be small ASCII: {rule}"
        for what, given, form, rule in rules
        if not isinstance(given, str) or not form.fullmatch(given)
    ]


def misnamed(model: type[BaseModel], named: Mapping[str, Sequence[str]], reserved: frozenset[str]) -> list[str]:
    """Fields that do not exist though `named` (by what names them), a line each; and names that are taken. Pure."""
    fields = model.model_fields
    if texts := [f"{what}: {name!r} is one text; write ({name!r},)" for what, name in named.items()
                 if isinstance(name, str)]:  # fmt: skip
        return texts
    lines = [f"{name}: {what} names it, and there is no such field" for what, names in named.items()
             for name in names if name not in fields]  # fmt: skip
    if not named["key"]:
        lines.append("the key is empty; name the fields that identify a record")
    hints = get_type_hints(model)
    lines += [
        f"{name}: it may be absent, and is part of the key; declare it without None"
        for name in named["key"]
        if name in fields and NoneType in get_args(hints[name])
    ]
    lines += [
        f"{name}: it is part of the key, which is text, and {type(kind).__name__} is not; declare it as Text"
        for name in named["key"]
        if name in fields
        for kind in field_types(fields[name].metadata)
        if not isinstance(kind, TextColumn)
    ]
    lines += [
        f"{name}: {what} names it twice"
        for what, names in named.items()
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    lines += [
        f"{name}: a column's name has {LONGEST_COLUMN} bytes at most"
        for name in fields
        if len(name.encode()) > LONGEST_COLUMN
    ]
    taken = reserved | SYSTEM_COLUMNS
    return lines + [f"{name}: the table has a column of that name of its own" for name in fields if name in taken]


def _of_field(hint: Any, info: FieldInfo) -> Iterator[str]:
    base, *metadata = get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
    types = field_types(metadata)
    if len(types) != 1:
        yield f"needs exactly one field type, e.g. Annotated[str, Text(100)]; found {types}"
        return
    [field_type] = types
    for item in metadata:
        if item is not field_type and item is not None and not isinstance(item, FieldInfo):
            yield f"{item!r} is not honoured; {_WAY_OUT}"
    for item in info.metadata:
        if item not in metadata:  # what Field(gt=…, pattern=…) has become
            yield f"{item!r} is not honoured; {_WAY_OUT}"
    for name in FieldInfo.__slots__:
        if name.startswith("_") or name in _HONOURED | _FOR_PEOPLE:
            continue
        if (value := getattr(info, name)) != getattr(_PLAIN, name):
            yield f"{name}={value!r} is not honoured; leave it out"
    yield from _of_python_type(base, field_type)
    yield from _of_default(info.default, field_type)


_WAY_OUT = "say it with the field type (e.g. a minimum, a maximum length), or write a field type in schemas/"


def _of_python_type(base: Any, field_type: FieldType) -> Iterator[str]:
    members = get_args(base) if get_origin(base) in (Union, UnionType) else (base,)
    kinds = [kind for kind in members if kind is not NoneType]
    if len(kinds) != 1 or kinds[0] not in field_type.python_types:
        shown = getattr(base, "__name__", None) if isinstance(base, type) else str(base)
        wanted = " or ".join(kind.__name__ for kind in field_type.python_types)
        yield f"the type {shown} is not honoured: {type(field_type).__name__} gives {wanted}, or {wanted} | None"


def _of_default(default: Any, field_type: FieldType) -> Iterator[str]:
    if default is PydanticUndefined or default is None:
        return
    try:
        kept = not isinstance(default, str | int) or field_type.normalize(default) is None
    except InvalidField as error:
        yield f"the default {default!r} is no value of it: {error.message}"
        return
    if kept:
        yield f"the default {default!r} is not honoured; give it as it would come from a source, as text or an integer"


def _of_model(model: type[BaseModel]) -> Iterator[str]:
    decorators = model.__pydantic_decorators__
    for kind in decorators.__slots__:
        for name in getattr(decorators, kind):
            yield f"{name}: {kind.removesuffix('s')} is not honoured; {_WAY_OUT}"
    for name, value in model.model_config.items():
        if name not in _SETTINGS_FOR_PEOPLE:
            yield f"model_config: {name}={value!r} is not honoured; leave it out"
    for name in model.__private_attributes__:
        yield f"{name}: a private attribute is not honoured; leave it out"
    if not model.__private_attributes__:  # they come with a hook of Pydantic's own
        for name in _HOOKS:
            ours, plain = getattr(model, name, None), getattr(BaseModel, name, None)
            if getattr(ours, "__func__", ours) is not getattr(plain, "__func__", plain):
                yield f"{name} is not honoured; leave it out"
