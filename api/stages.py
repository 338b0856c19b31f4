"""What the API needs of failures; the entry point gives it."""

from dataclasses import dataclass

from services.failures.desk import Desk


@dataclass(frozen=True)
class Stages:
    """What is done with failures, as the API calls it."""

    failures: Desk
