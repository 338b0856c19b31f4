"""elasticsearch-py as our processes import it, without numpy and pyarrow, of which it would serialize values; and the
one place that makes a client.

Nor does it make spans of its own, which cost a twentieth of a search even where nothing is traced.
"""

import os
from typing import Any

from runtime.lean_import import without
from runtime.settings import Settings

os.environ.setdefault("OTEL_PYTHON_INSTRUMENTATION_ELASTICSEARCH_ENABLED", "false")

with without("numpy", "pyarrow"):
    from elastic_transport import TransportError
    from elasticsearch import ApiError, AsyncElasticsearch, BadRequestError, UnsupportedProductError

__all__ = [
    "ApiError",
    "AsyncElasticsearch",
    "BadRequestError",
    "TransportError",
    "UnsupportedProductError",
    "search_client",
]


def search_client(settings: Settings, **options: Any) -> AsyncElasticsearch:
    """A client of the cluster at ELASTICSEARCH_URL; connects on first use.

    A user and password may stand in the address. The options are those of AsyncElasticsearch. Raises ValueError where
    the pipeline has no Elasticsearch.
    """
    if settings.elasticsearch_url is None:
        raise ValueError("ELASTICSEARCH_URL is none: there is no index")
    key, ca_file = settings.elasticsearch_api_key, settings.elasticsearch_ca_file
    access: dict[str, Any] = {
        "api_key": key.get_secret_value() if key else None,
        "ca_certs": str(ca_file) if ca_file else None,
    }
    given = {name: value for name, value in access.items() if value is not None}
    return AsyncElasticsearch(settings.elasticsearch_url, **given, **options)
