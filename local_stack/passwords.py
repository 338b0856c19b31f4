"""Passwords that nobody has to choose or remember: one per stack and server."""

import secrets

OF = ("postgres", "redis")
"""The servers that ask for one. Those of Kafka and Elasticsearch are the deployment's business: loopback only."""


def make_passwords() -> dict[str, str]:
    """A new password for each of them, of 192 random bits, in letters that a URL and SQL take as they are."""
    return {server: secrets.token_urlsafe(24) for server in OF}
