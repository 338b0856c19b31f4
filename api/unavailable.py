"""The verdict that a store does not answer: every answer that needs the store becomes a 503."""

from stores.outages import TableMisfit, Unavailable, postgres_trouble, table_trouble

__all__ = ["TableMisfit", "Unavailable", "postgres_trouble", "table_trouble"]
