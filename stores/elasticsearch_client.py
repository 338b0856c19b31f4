"""elasticsearch-py as our processes import it: without numpy and pyarrow, of which it would serialize values.

Nor does it make spans of its own, which cost a twentieth of a search even where nothing is traced.
"""

import os

from runtime.lean_import import without

os.environ.setdefault("OTEL_PYTHON_INSTRUMENTATION_ELASTICSEARCH_ENABLED", "false")

with without("numpy", "pyarrow"):
    from elastic_transport import TransportError
    from elasticsearch import ApiError, AsyncElasticsearch, BadRequestError, UnsupportedProductError

__all__ = ["ApiError", "AsyncElasticsearch", "BadRequestError", "TransportError", "UnsupportedProductError"]
