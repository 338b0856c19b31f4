"""The search server as tests ask it: indices made, read and dropped by hand."""

from typing import Any

from runtime.settings import Settings
from schemas.registry import all_datasets
from stores.search_index import index_name
from stores.search_server import SearchServer

SECONDS = 60.0


def search_server(settings: Settings) -> SearchServer:
    """A client to be closed."""
    return SearchServer(settings, SECONDS)


async def make_index(server: SearchServer, index: str, properties: dict[str, Any], **more: Any) -> None:
    """An index with this mapping; `more` is settings and aliases."""
    await server.ask("PUT", f"/{index}", {"mappings": {"properties": properties}, **more})


async def mapping_of(server: SearchServer, index: str) -> Any:
    """Its fields."""
    return (await server.ask("GET", f"/{index}/_mapping"))[index]["mappings"]["properties"]


async def settings_of(server: SearchServer, index: str) -> dict[str, Any]:
    found: dict[str, Any] = (await server.ask("GET", f"/{index}/_settings"))[index]["settings"]["index"]
    return found


async def drop_indices(server: SearchServer, settings: Settings) -> None:
    """Drop those of all datasets, as far as they are there."""
    for dataset in all_datasets():
        await server.ask("DELETE", f"/{index_name(dataset, settings)}?ignore_unavailable=true")
