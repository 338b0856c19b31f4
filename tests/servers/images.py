"""The images of the servers: the table at the top of docker-compose.yml."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml

COMPOSE_FILE = Path(__file__).parents[2] / "docker-compose.yml"


@cache
def read_images() -> Mapping[str, str]:
    """Image and tag of each server, and of the Kafka that testcontainers can run (`kafka-in-tests`)."""
    images: dict[str, str] = yaml.safe_load(COMPOSE_FILE.read_text())["x-images"]
    return images
