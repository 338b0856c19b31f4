from pathlib import Path

import pytest

from local_stack.redis import RedisProgram, ask, find_redis


def program(folder: Path, name: str, says: str, code: int = 0) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {code}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("name", "says", "told"),
    [
        ("redis-server", "Redis server v=8.2.2 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1", "Redis 8.2.2"),
        ("valkey-server", "Valkey server v=8.1.8 sha=00000000:1 malloc=libc bits=64 build=7eb4", "Valkey 8.1.8"),
    ],
)
def test_redis_or_valkey_on_path_is_taken_and_named(
    name: str, says: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program(tmp_path, name, says)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    found = find_redis()
    assert isinstance(found, RedisProgram)
    assert (found.program, str(found)) == (str(path), told)


def test_a_redis_program_that_does_not_run_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "redis-server", "libc.so.7 not found", code=127)
    good = program(tmp_path, "valkey-server", "Valkey server v=9.0.1 sha=0")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    found = find_redis()
    assert isinstance(found, RedisProgram)
    assert found.program == str(good)


@pytest.mark.parametrize(
    ("name", "version", "has_hole"),
    [
        ("Redis", (6, 2, 5), True),
        ("Redis", (6, 2, 20), False),
        ("Redis", (7, 0, 15), True),
        ("Redis", (7, 2, 10), True),
        ("Redis", (7, 2, 11), False),
        ("Redis", (8, 0, 3), True),
        ("Redis", (8, 2, 1), True),
        ("Redis", (8, 4, 0), False),
        ("Valkey", (7, 2, 10), True),
        ("Valkey", (8, 1, 4), False),
        ("Valkey", (9, 0, 0), False),
    ],
)
def test_a_version_with_a_known_hole_is_said_to_have_it(name: str, version: tuple[int, ...], has_hole: bool) -> None:
    found = RedisProgram("redis-server", name, version)
    assert found.has_hole == has_hole
    assert ("CVE-2025-49844" in str(found)) == has_hole


def test_a_redis_that_is_too_old_is_refused_with_its_version(tmp_path: Path) -> None:
    path = program(tmp_path, "redis-server", "Redis server v=5.0.14 sha=0")
    assert ask(str(path)) == f"{path} is Redis 5.0.14, older than 6.2"
