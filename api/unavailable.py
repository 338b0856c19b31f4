"""The verdict that a store does not answer: every answer that needs the store becomes a 503."""

from runtime.unavailable import Unavailable, postgres_trouble

__all__ = ["Unavailable", "postgres_trouble"]
