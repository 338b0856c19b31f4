"""Races of other projects' tools: what is kept of them, and what of a failure may be published."""

from pathlib import Path

import pytest

from benchmarks.__main__ import PARTS, arguments, present
from benchmarks.peers import connect
from benchmarks.peers.installing import HERE, NotInstalled, interpreter, java_command
from benchmarks.peers.normalize import CANDIDATES, SAMPLE, expected
from benchmarks.peers.racing import Failed, Mark, Race, as_row, compared, publishable, run_all
from benchmarks.peers.store import CANDIDATES as STORES
from benchmarks.peers.whole import CANDIDATES as WHOLES
from benchmarks.results import RATIOS


def race(per_second: float, cpu_us: float, cold: float = 10.0) -> Race:
    """The first 1,000 records in `cold` seconds, another 1,000 at that rate."""
    half = Mark(1_100, cold, 1.0, 0.0)
    return Race(Mark(100, 0.0, 0.0, 0.0), half, Mark(2_100, cold + 1000 / per_second, 1.0 + cpu_us / 1000, 0.0), 50)


def test_warm_and_cold_stand_beside_each_other_and_what_counts_is_warm() -> None:
    row = as_row([race(500, 20), race(1000, 10), race(2000, 5)], "records_per_second")
    assert row["records_per_second"] == {"median": 1000, "low": 500, "high": 2000}
    assert row["cold_records_per_second"]["median"] == 100
    assert row["cpu_us"]["median"] == 10
    assert "server_cpu_us" not in row, "no server was watched"


def test_ratios_are_the_medians_of_the_rounds_own() -> None:
    races = {"Headrace": [race(1000, 10), race(2000, 10)], "other": [race(500, 20), race(1000, 20)]}
    found = compared(races, "Headrace")
    assert found["ours_to_others"] == {"other": 2.0}
    assert found["cpu_of_others"] == {"other": 0.5}


def test_who_cannot_be_had_or_fails_is_left_out_with_the_reason_and_the_rest_goes_on() -> None:
    def missing() -> Race:
        raise NotInstalled("no such version")

    def late() -> Race:
        if calls:
            raise Failed("3 of 10 records")
        calls.append(1)
        return race(1000, 10)

    calls: list[int] = []
    races, left_out = run_all({"a": missing, "b": lambda: race(1000, 10), "c": late}, rounds=2)
    assert list(races) == ["b"]
    assert len(races["b"]) == 2
    assert left_out == {"a": "left out: no such version", "c": "left out: 3 of 10 records"}


def test_a_reason_names_no_address_and_no_folder_of_this_machine() -> None:
    said = publishable("could not get https://example.org/x/y (127.0.0.1:80)\n from /home/me/.m2/repository | pip 26/1")
    assert said == "could not get … … from … / pip 26/1"


def test_every_peer_has_a_recipe_with_pinned_versions() -> None:
    for file in (HERE / "requirements").glob("*.txt"):
        assert all("==" in line for line in file.read_text().splitlines()), file
    for pom in (HERE / "java").glob("*/pom.xml"):
        text = pom.read_text()
        assert text.count("<version>") >= text.count("<dependency>")


@pytest.mark.parametrize("name", ["quix", "streams"])
def test_what_is_installed_is_not_installed_again(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(words: list[str]) -> None:
        ran.append(words)

    monkeypatch.setenv("HEADRACE_PEERS", str(tmp_path))
    monkeypatch.setattr("benchmarks.peers.installing._run", run)
    for _ in range(2):
        if name == "quix":
            assert interpreter("quix").parent.parent.parent == tmp_path
        else:
            assert java_command("streams", "Normalize")[-1] == "Normalize"
    assert len(ran) == 2, "the environment and its packages, or the jars and the compiler, once"


def test_a_failed_installation_leaves_nothing_that_looks_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(words: list[str]) -> None:
        raise NotInstalled(words[0])

    monkeypatch.setenv("HEADRACE_PEERS", str(tmp_path))
    monkeypatch.setattr("benchmarks.peers.installing._run", fail)
    with pytest.raises(NotInstalled):
        interpreter("dlt")
    assert not list(tmp_path.iterdir())


def test_what_is_expected_is_what_our_rules_make_of_the_same_customers() -> None:
    found = expected(3 * SAMPLE)
    assert len(found) == 3
    one = found[b"p-00000000"]
    assert list(one) == connect.FIELDS
    assert one["first_name"] == one["first_name"].strip()
    assert one["email"] == one["email"].lower()
    assert one["phone"].startswith("+1")


def test_ratios_name_candidates_that_there_are() -> None:
    known = {"peers_normalize": set(CANDIDATES), "peers_store": set(STORES), "peers_whole": set(WHOLES)}
    for benchmark, _, *name in RATIOS.values():
        if benchmark in known:
            assert name[0] in known[benchmark]


def test_every_step_of_the_whole_run_is_a_module_and_takes_what_it_is_given() -> None:
    for _, steps in PARTS.values():
        for step in present(steps):
            module = HERE.parent / f"{step.module.replace('.', '/')}.py"
            text = module.read_text()
            words = arguments(step, 1, 1000, Path("r.json"))[3:]
            for option in (word for word in words if word.startswith("--")):
                assert option in text or option[2:].replace("-", "_") in text, (step.module, option)
