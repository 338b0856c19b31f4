"""elasticsearch-py as our processes import it: without numpy and pyarrow, of which it would serialize values."""

from runtime.lean_import import without

with without("numpy", "pyarrow"):
    from elastic_transport import TransportError
    from elasticsearch import ApiError, AsyncElasticsearch, BadRequestError, UnsupportedProductError

__all__ = ["ApiError", "AsyncElasticsearch", "BadRequestError", "TransportError", "UnsupportedProductError"]
