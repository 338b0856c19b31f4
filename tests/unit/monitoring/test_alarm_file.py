"""alarms.toml: what it may say, and what is said of what it may not."""

import tomllib
from pathlib import Path

import pytest

from monitoring.alarm_file import KINDS, AlarmFile, AlarmFileError, LagSeconds, load_alarms, parse_alarms
from runtime.settings import Settings

PROJECT = Path(__file__).parents[3]
SECRET = "https://hooks.example.org/T0/very-secret"


def parsed(text: str, **variables: str) -> AlarmFile:
    return parse_alarms(tomllib.loads(text), "alarms.toml", variables.get)


def test_the_file_that_is_shipped_has_a_rule_of_every_kind_and_sends_nothing() -> None:
    file = load_alarms(Settings(alarms_file=PROJECT / "alarms.toml"))
    assert {kind for rule in file.rules.values() for kind, model in KINDS.items() if type(rule) is model} == set(KINDS)
    assert not file.targets


def test_without_a_file_there_are_no_alarms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ALARMS_FILE", raising=False)
    assert not load_alarms(Settings()).rules


def test_a_file_that_is_named_and_not_there_is_not_taken_for_no_alarms(tmp_path: Path) -> None:
    with pytest.raises(AlarmFileError, match=r"alarm\.toml does not exist: ALARMS_FILE names it"):
        load_alarms(Settings(alarms_file=tmp_path / "alarm.toml"))


def test_a_target_takes_its_address_from_the_environment_and_shows_it_nowhere() -> None:
    text = """
        [targets.team]
        kind = "slack"
        url = "${HOOK}"
        headers = { Authorization = "Bearer ${TOKEN}" }
        [rules.behind]
        when = "lag_seconds"
        above = 300
        [rules.quiet]
        when = "drift"
        targets = []
    """
    file = parsed(text, HOOK=SECRET, TOKEN="hidden-token")
    assert file.targets["team"].url.get_secret_value() == SECRET
    assert "secret" not in repr(file).replace("SecretStr", "")
    assert "hidden-token" not in repr(file)
    assert {rule.name: rule.targets for rule in file.judged()} == {"behind": ("team",), "quiet": ()}
    with pytest.raises(AlarmFileError) as raised:
        parsed(text, TOKEN="t")
    assert str(raised.value) == (
        "alarms.toml: [targets.team] url: HOOK is not set; set it in the environment or in .env"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[rules.a]\nwhen = 'lag'", "[rules.a] when = 'lag': expected one of lag_seconds, verdict, kafka_away"),
        ("[rules.a]\nabove = 1", "[rules.a] when = None: expected one of"),
        ("[rules.a]\nwhen = 'lag_seconds'", "[rules.a] above is missing: lag_seconds needs it"),
        ("[rules.a]\nwhen = 'lag_seconds'\nabove = -3", "[rules.a] above = -3: Input should be greater than 0"),
        ("[rules.a]\nwhen = 'verdict'\nverdicts = ['LATE']", "[rules.a] verdicts.0 = 'LATE': Input should be 'WARN',"),
        ("[rules.a]\nwhen = 'drift'\nabove = 3", "[rules.a] above: there is no such setting"),
        ("[rules.a]\nwhen = 'drift'\nfor_seconds = 'x'", "[rules.a] for_seconds = 'x': Input should be a valid number"),
        ("[rules.a]\nwhen = 'drift'\ntargets = ['b']", "[rules.a] targets: there is no [targets.b]; known: none"),
        ("[rules]\na = 1", "[rules.a]: expected a block of settings, got 1"),
        ("rules = 1", "rules = 1: expected blocks [rules.NAME]"),
        ("targets = 5\n[rules.a]\nwhen = 'drift'\ntargets = ['b']", "targets = 5: expected blocks [targets.NAME]"),
        (
            "[targets.a]\nkind = 'json'\nurl = '${NO_SUCH}/T0/very-secret'",
            "[targets.a] url: NO_SUCH is not set; set it in the environment or in .env",
        ),
        ("[rule.a]\nwhen = 'drift'", "unknown table [rule]; there are [rules.NAME] and [targets.NAME]"),
        (
            "[targets.a]\nkind = 'mail'\nurl = 'http://x'",
            "[targets.a] kind = 'mail': Input should be 'json' or 'slack'",
        ),
        *(
            (
                f"[targets.a]\nkind = 'json'\nurl = '{address}'",
                "[targets.a] url = (hidden): expected an address like https://host/path",
            )
            for address in ("ftp://me:pw@x", "https://", "http://h:99999/T0/very-secret", "http://me:very-secret/x@h")
        ),
        ("[targets.a]\nkind = 'json'", "[targets.a] url is missing: a target needs it"),
        *(
            (
                f"[targets.a]\nkind = 'json'\nurl = 'http://x'\nheaders = {{ Authorization = \"{token}\" }}",
                "[targets.a] headers.Authorization = (hidden): expected printable ASCII",
            )
            for token in ("Bearer ü", "Bearer x\\n", " Bearer x")
        ),
        ("[rules.'a b']\nwhen = 'drift'", "a name has letters, digits, - _ and ."),
    ],
)
def test_what_is_wrong_is_named_with_rule_setting_and_value(text: str, problem: str) -> None:
    with pytest.raises(AlarmFileError) as raised:
        parsed(text)
    assert problem in str(raised.value)
    assert str(raised.value).startswith("alarms.toml: ")


def test_a_file_that_is_no_toml_is_named_with_the_place(tmp_path: Path) -> None:
    file = tmp_path / "alarms.toml"
    file.write_text("[rules.a\n")
    with pytest.raises(AlarmFileError, match=r"alarms\.toml cannot be read: .*line 1"):
        load_alarms(Settings(alarms_file=file))


def test_a_rule_about_groups_takes_patterns_of_their_names() -> None:
    rule = LagSeconds(when="lag_seconds", above=1, groups=("sink-*",))
    assert rule.concerns("ns.sink-redis", "sink-redis")
    assert not rule.concerns("ns.normalizer", "normalizer")
