"""Alarms open when a condition lasts and close when it is gone for a while; each is told once, and again as asked."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from monitoring.alarms import Alarm, Event, Finding, Key, Rule, judge, taken_over

BEHIND = Rule("behind", for_seconds=30, clear_seconds=60, remind_seconds=600, targets=("team",))


class Story:
    """Looks every ten seconds; `bad` says what is wrong."""

    def __init__(self, *rules: Rule) -> None:
        self.rules = rules or (BEHIND,)
        self.known: dict[Key, Alarm] = {}
        self.now = 0.0
        self._ids = count(1)

    def look(self, *bad: str, rule: str = "behind", away: bool = False) -> list[Event]:
        found = {one.name: [] if one.name != rule else finding(*bad) for one in self.rules}
        given: dict[str, Sequence[Finding] | None] = {rule: None} if away else dict(found)
        self.known, events = judge(self.rules, self.known, given, self.now, lambda: f"a{next(self._ids)}")
        self.now += 10
        return events


def finding(*subjects: str) -> list[Finding]:
    return [Finding(subject, f"{subject} is behind", 400.0) for subject in subjects]


def told(events: list[Event]) -> list[tuple[str, str | None, str]]:
    return [(event.kind, event.alarm.id, event.alarm.subject) for event in events]


def test_an_alarm_opens_when_its_condition_has_lasted_and_closes_when_it_has_been_gone() -> None:
    story = Story()
    assert [told(story.look("g")) for _ in range(5)] == [[], [], [], [("opened", "a1", "g")], []]
    assert [told(story.look()) for _ in range(7)] == [[], [], [], [], [], [], [("closed", "a1", "g")]]
    assert story.known == {}


def test_what_comes_and_goes_neither_opens_nor_closes() -> None:
    story = Story()
    for _ in range(5):
        assert not story.look("g") + story.look("g") + story.look()
    for _ in range(4):
        story.look("g")
    opened = story.known["behind", "g"]
    for _ in range(5):
        assert not story.look() + story.look() + story.look("g")
    assert story.known["behind", "g"].id == opened.id


def test_each_subject_has_an_alarm_of_its_own_and_an_id_that_does_not_come_again() -> None:
    story = Story(Rule("behind", clear_seconds=0))
    assert told(story.look("g", "h")) == [("opened", "a1", "g"), ("opened", "a2", "h")]
    assert told(story.look("h")) == [("closed", "a1", "g")]
    assert told(story.look("g", "h")) == [("opened", "a3", "g")]


def test_an_open_alarm_is_told_again_with_the_latest_words_and_a_new_event_id() -> None:
    story = Story(Rule("behind", remind_seconds=20))
    events = [event for _ in range(6) for event in story.look("g")]
    assert [event.kind for event in events] == ["opened", "reminder", "reminder"]
    assert len({event.id for event in events}) == 3
    story = Story(Rule("behind", remind_seconds=0))
    assert [event.kind for _ in range(200) for event in story.look("g")] == ["opened"]


def test_a_store_that_is_away_neither_opens_nor_closes() -> None:
    story = Story()
    for _ in range(3):
        story.look("g")
    assert not [event for _ in range(20) for event in story.look(away=True)]
    assert told(story.look("g")) == [("opened", "a1", "g")]
    story.look()
    assert not [event for _ in range(20) for event in story.look(away=True)]
    assert "behind" in {rule for rule, _ in story.known}


def test_an_alarm_whose_rule_is_gone_is_closed_and_says_so() -> None:
    story = Story(Rule("behind"), Rule("other"))
    story.look("g")
    story.rules = (Rule("other"),)
    [event] = story.look()
    assert (event.kind, event.alarm.rule, event.targets) == ("closed", "behind", ())
    assert event.alarm.closed_at is not None
    assert "no more" in event.alarm.text
    assert not story.known


def test_what_is_open_goes_on_after_a_restart_without_being_told_again() -> None:
    story = Story(Rule("behind", clear_seconds=20))
    story.look("g")
    saved = Alarm(**{**story.known["behind", "g"].json(), "told_at": 0.0})
    again = Story(Rule("behind", clear_seconds=20))
    again.known, again.now = {("behind", "g"): saved}, 100.0
    assert not again.look("g")
    assert told(again.look() + again.look() + again.look()) == [("closed", "a1", "g")]


def test_an_event_says_everything_as_json() -> None:
    story = Story(Rule("behind", severity="critical", targets=("team",)))
    [event] = story.look("g")
    assert event.targets == ("team",)
    assert event.json() == {
        "event": "opened",
        "event_id": "a1-opened",
        "at": 0.0,
        "alarm": {
            "id": "a1",
            "rule": "behind",
            "subject": "g",
            "severity": "critical",
            "text": "g is behind",
            "value": 400.0,
            "since": 0.0,
            "opened_at": 0.0,
            "closed_at": None,
        },
    }


def test_an_alarm_that_was_open_before_goes_on_and_its_double_is_closed() -> None:
    rules = [Rule("r", targets=("team",))]
    before = Alarm("r", "a", "warning", "wrong", 1, since=1.0, id="B", opened_at=1.0)
    double = Alarm("r", "a", "warning", "wrong", 1, since=5.0, id="A", opened_at=5.0)
    waiting = Alarm("r", "b", "warning", "wrong", 1, since=5.0)
    other = Alarm("r", "c", "warning", "wrong", 1, since=5.0, id="C", opened_at=5.0)
    known = {(one.rule, one.subject): one for one in (double, waiting, other)}
    stored = [before, replace(waiting, id="D", opened_at=1.0)]
    alarms, events = taken_over(rules, known, stored, 9.0)
    assert {subject: alarm.id for (_, subject), alarm in alarms.items()} == {"a": "B", "b": "D", "c": "C"}
    [event] = events
    assert (event.kind, event.targets) == ("closed", ("team",))
    assert (event.alarm.id, event.alarm.closed_at) == ("A", 9.0)
    assert event.alarm.text == "wrong (it goes on as the alarm B)"
