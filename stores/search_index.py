"""The search index of each dataset in Elasticsearch, derived from its declaration. Core features only: no plug-ins.

The index is `<dataset>-v1`, readers and writers use its alias `<dataset>`. Beside the fields as they are stored, there
is `search_text`: all searched fields, folded by `schemas.text.fold`, with prefixes indexed. A query folds its words the
same way and looks there, or compares a key; no analysis plug-in has to fold accents. What is searched there is not
indexed a second time under its own name: that would cost a quarter of the node's CPU time and of the index.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.registry import all_datasets
from stores.search_server import SearchRefused, SearchServer
from stores.set_up_report import SetUpReport

INDEX_VERSION = 1
"""Raise it when a mapping changes in a way that Elasticsearch can't apply to an existing index."""

SEARCH_TEXT = "search_text"

EARLIER_REFRESH_INTERVAL = "1s"


_OF_TEXT = {"text", "keyword"}  # both hold any text


def alias_name(dataset: Dataset, settings: Settings) -> str:
    """The alias that readers search and writers write to."""
    return settings.named(dataset.name)


def index_name(dataset: Dataset, settings: Settings) -> str:
    """The index behind the alias."""
    return f"{alias_name(dataset, settings)}-v{INDEX_VERSION}"


def index_mapping(dataset: Dataset) -> dict[str, Any]:
    """The mapping: the dataset's fields, when they were stored, and the folded text. Pure."""
    properties = {field.name: field.type.mapping() for field in dataset.fields}
    for name in dataset.search_fields:
        if name not in dataset.key:
            properties[name] = {"type": properties[name]["type"], "index": False}
    if dataset.serial_id:
        properties["id"] = {"type": "long"}
    return {
        # A field that a later version adds is stored and not searched until the mapping knows it.
        "dynamic": False,
        "properties": {
            **properties,
            "created_at": {"type": "date"},
            "updated_at": {"type": "date"},
            SEARCH_TEXT: {"type": "text", "index_prefixes": {"min_chars": 1, "max_chars": 10}},
        },
    }


def index_template(dataset: Dataset, settings: Settings) -> dict[str, Any]:
    """The index template. One shard and no replica: a local node; set replicas on the index where there are more.

    The refresh interval is Elasticsearch's own: a second, and while nobody has searched for half a minute none, until
    the next search, which then waits for its refresh. So a load writes fewer and larger segments.
    """
    return {
        "index_patterns": [f"{alias_name(dataset, settings)}-v*"],
        # Above the built-in templates, whose patterns are as broad as `metrics-*`.
        "priority": 500,
        "template": {
            "settings": {
                "number_of_shards": 1,
                "number_of_replicas": 0,
                # The versions of deleted documents are remembered as long as the tombstones in Postgres. After the
                # default of 60 s a write that was held up longer would bring a deleted document back.
                "index.gc_deletes": f"{settings.tombstone_retention_hours}h",
            },
            "mappings": index_mapping(dataset),
        },
    }


async def ensure_indices(server: SearchServer, settings: Settings) -> SetUpReport:
    """Create template, index and alias of every dataset, and bring existing indices into their declared form.

    A field whose form Elasticsearch does not change stays as it is, and is reported, as is a dataset whose names are
    taken. Idempotent, and safe when several processes do it at once. Raises SearchRefused or TransportError.
    """
    report = SetUpReport()
    for dataset in all_datasets():
        try:
            await _ensure(server, settings, dataset, report)
        except SearchRefused as error:
            if not _is_misfit(error):
                raise
            alias, index = alias_name(dataset, settings), index_name(dataset, settings)
            report.misfits[dataset.name] = (
                f"{dataset.name}: Elasticsearch refuses its template, the index {index} or the alias {alias}: {error}; "
                "delete or rename what is in the way, then run `headrace setup`"
            )
    return report


def _is_misfit(error: SearchRefused) -> bool:
    """True if something that somebody has made is in the way of an index, its template or its alias."""
    return error.status == HTTPStatus.BAD_REQUEST or error.kind == "illegal_state_exception"


async def _ensure(server: SearchServer, settings: Settings, dataset: Dataset, report: SetUpReport) -> None:
    alias, index = alias_name(dataset, settings), index_name(dataset, settings)
    await server.ask("PUT", f"/_index_template/{alias}", index_template(dataset, settings))
    if (found := await _found(server, index)) is None:
        try:
            await server.ask("PUT", f"/{index}")
            report.changes.append(f"{dataset.name}: the index {index} was made")
        except SearchRefused as error:
            if error.kind != "resource_already_exists_exception":
                raise
    else:
        await _put_mapping(server, dataset, index, found["mappings"].get("properties", {}), report)
        await _refresh_as_by_default(server, dataset, index, found["settings"]["index"], report)
    await server.ask("PUT", f"/{index}/_alias/{alias}", {"is_write_index": True})


async def _found(server: SearchServer, index: str) -> dict[str, Any] | None:
    """Mapping and settings of the index as it is; None if it is not there. The name may be an alias of it."""
    try:
        answer: dict[str, dict[str, Any]] = await server.ask("GET", f"/{index}")
    except SearchRefused as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return None
    return next(iter(answer.values()))


async def _refresh_as_by_default(
    server: SearchServer, dataset: Dataset, index: str, settings: Mapping[str, Any], report: SetUpReport
) -> None:
    """Take away the interval that earlier releases have set: with one of its own an index is refreshed for nobody."""
    if settings.get("refresh_interval") == EARLIER_REFRESH_INTERVAL:
        await server.ask("PUT", f"/{index}/_settings", {"index.refresh_interval": None})
        report.changes.append(f"{dataset.name}: the index {index} is refreshed by Elasticsearch's default now")


def _without_additions(there: Mapping[str, Any], form: Mapping[str, Any]) -> dict[str, Any]:
    """A field of an index without what leaves it fit for its declaration.

    That is what an operator may have added, and that it can be searched by itself, as in indices of earlier releases.
    """
    kept = {what: value for what, value in there.items() if what in form or what not in ("fields", "copy_to", "meta")}
    if form.get("index") is False:
        kept["index"] = False
    if "fields" in kept:
        kept["fields"] = {name: field for name, field in kept["fields"].items() if name in form["fields"]}
    return kept


async def _put_mapping(
    server: SearchServer, dataset: Dataset, index: str, found: Mapping[str, Any], report: SetUpReport
) -> None:
    """Bring the fields of the index into their declared form, as far as Elasticsearch allows it."""
    wanted = index_mapping(dataset)["properties"]
    if new := {name: form for name, form in wanted.items() if name not in found}:
        await server.ask("PUT", f"/{index}/_mapping", {"properties": new})
        report.changes.append(f"{dataset.name}: the index {index} has {', '.join(sorted(new))} now")
    misfits = []
    for name, form in wanted.items():
        there = found.get(name, form)
        if _without_additions(there, form) == form:
            continue
        declared, has = form["type"], there.get("type", "object")
        if declared == has:
            try:
                await server.ask("PUT", f"/{index}/_mapping", {"properties": {name: form}})
                report.changes.append(f"{dataset.name}.{name}: the index {index} has it in its declared form now")
                continue
            except SearchRefused as error:
                if error.status != HTTPStatus.BAD_REQUEST:
                    raise
                declared, has = json.dumps(form), json.dumps(there)
        line = f"{dataset.name}.{name}: declared {declared}, the index has {has}"
        if {there.get("type"), form["type"]} <= _OF_TEXT:
            report.remarks.append(f"{line} and keeps it; searches find the field in {SEARCH_TEXT}")
        else:
            misfits.append(
                f"{line}; delete the index {index}, run `headrace setup`, then `headrace audit --deep --repair`"
            )
    if misfits:
        report.misfits[dataset.name] = "; ".join(misfits)
