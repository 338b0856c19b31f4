"""Nothing that the stacks run has a hole that tests/known_holes.toml knows of."""

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.version import Version

from local_stack.elasticsearch import find_elasticsearch
from local_stack.kafka import find_kafka
from local_stack.maven import JavaServer
from local_stack.redis import RedisProgram, find_redis
from tests.servers.images import read_images

KNOWN = tomllib.loads((Path(__file__).parents[1] / "known_holes.toml").read_text())
ACCEPTED = {one["used"] for one in KNOWN["accepted"]}

Used = tuple[str, str]
"""Name and version of a jar or an image."""


def found_holes(used: Iterable[Used]) -> dict[str, str]:
    """What is too old, `name:version`, and the identifiers of its holes. A tag such as 8 means its newest release."""
    found = {}
    for name, version in used:
        parts = len(version.split("."))
        for hole in KNOWN["holes"]:
            first_without = ".".join(hole["below"].split(".")[:parts])
            if hole["package"] == name and Version(version) < Version(first_without):
                found[f"{name}:{version}"] = hole["id"]
    return found


def jars(folder: Path) -> list[Used]:
    named = (re.fullmatch(r"(.+?)-(\d[^-]*)\.jar", file.name) for file in (folder / "lib").iterdir())
    return [(match[1], match[2]) for match in named if match]


def images() -> list[Used]:
    return [(name, tag.lstrip("v")) for name, _, tag in (image.partition(":") for image in read_images().values())]


def test_the_jars_of_the_local_stack_have_no_known_hole() -> None:
    kafka = jars(find_kafka().folder)
    names = {name for name, _ in kafka}
    assert {"kafka-clients", "lz4-java", "log4j-core"} <= names
    assert found_holes(kafka) == {}
    elasticsearch = find_elasticsearch()
    assert isinstance(elasticsearch, JavaServer), elasticsearch
    assert found_holes(jars(elasticsearch.folder)) == {}


def test_the_redis_of_the_local_stack_has_no_known_hole() -> None:
    found = find_redis()
    assert isinstance(found, RedisProgram), found
    assert not found.has_hole, found


def test_the_images_of_compose_have_no_known_hole_but_those_that_are_accepted_with_a_reason() -> None:
    assert found_holes(images()).keys() == ACCEPTED, "one too many here is one to take out there"
    assert all(one["reason"] for one in KNOWN["accepted"])


def test_what_is_outdated_is_found_out() -> None:
    old = [
        ("kafka-clients", "4.1.0"),
        ("lz4-java", "1.8.0"),
        ("log4j-core", "2.24.3"),
        ("redis", "7.4"),
        ("redis", "8"),
    ]
    assert found_holes(old).keys() == {"kafka-clients:4.1.0", "lz4-java:1.8.0", "log4j-core:2.24.3", "redis:7.4"}
    assert found_holes([("lz4-java", "1.11.1"), ("log4j-core", "2.26.1"), ("somebody-elses", "0.1")]) == {}
