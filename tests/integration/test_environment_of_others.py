"""What the environment and the machine say of other servers changes nothing about the local stack's own."""

from pathlib import Path

import pytest

from local_stack.servers import start_servers


def test_postgres_is_reached_whatever_the_environment_says_of_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {"MODE": "verify-full", "ROOTCERT": "/nowhere/ca.pem", "CERT": "/nowhere/me.pem", "KEY": "/nowhere/me.key"}
    for name, value in {f"PGSSL{name}": value for name, value in others.items()}.items():
        monkeypatch.setenv(name, value)
    for name in ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGPASSFILE", "PGSERVICE", "PGDATA"):
        monkeypatch.setenv(name, "1")
    with start_servers(tmp_path, ["postgres"]) as running:
        assert running.addresses.keys() == {"DATABASE_URL"}


def test_postgres_starts_after_a_crash_though_its_number_is_now_that_of_another_postgres(tmp_path: Path) -> None:
    with start_servers(tmp_path / "one", ["postgres"]) as one, start_servers(tmp_path / "other", ["postgres"]) as other:
        one.kill("postgres")
        mark = (tmp_path / "one" / "data").resolve() / "postgres" / "postmaster.pid"
        _, _, rest = mark.read_text().partition("\n")
        mark.write_text(f"{other.pid('postgres')}\n{rest}")
        one.start()
        assert one.pid("postgres") != other.pid("postgres")
