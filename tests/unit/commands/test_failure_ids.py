import os

import pytest
from typer.testing import CliRunner

from commands.failures import failures
from commands.output import who
from services.failures.actions import MOST_ID, MOST_IDS


@pytest.mark.parametrize("command", [["retry"], ["release"], ["discard", "--reason-text", "sent by mistake"]])
@pytest.mark.parametrize(
    ("ids", "told"),
    [([str(MOST_ID + 1)], "should be less than or equal to"), (["7"] * (MOST_IDS + 1), f"at most {MOST_IDS:,} ids")],
)
def test_ids_that_no_failure_can_have_and_too_many_are_wrong_usage(
    command: list[str], ids: list[str], told: str
) -> None:
    ended = CliRunner().invoke(failures, [*command, *ids])
    assert ended.exit_code == 2
    assert told in " ".join(ended.output.replace("│", " ").split())


def test_who_has_no_name_acts_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found")  # a cluster may run a container as any number

    monkeypatch.setattr("getpass.getuser", nameless)
    assert who().partition("@")[0] == str(os.getuid())
