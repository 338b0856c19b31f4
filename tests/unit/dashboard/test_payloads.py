from decimal import Decimal

from dashboard.payloads import as_json, changes, differs, edit_command, payload_as_text, pretty, views


def test_a_payload_is_shown_with_all_its_digits_and_in_its_order() -> None:
    assert pretty('{"b":1.50,"a":12345678901234567890}') == '{\n  "b": 1.50,\n  "a": 12345678901234567890\n}'
    assert pretty("no json {") == "no json {"


def test_bytes_that_are_no_text_are_shown_as_digits() -> None:
    assert payload_as_text({"encoding": "base64", "content": "/wA="}) == "ff 00"
    assert payload_as_text(None) == ""


def test_the_wrong_field_is_marked_beside_what_is_expected() -> None:
    found = views(
        '{"id": "1", "email": "x", "more": 1}',
        {"id": "text", "email": "e-mail address", "name": "text; required"},
        [{"field": "email", "message": "is none"}, {"field": "name", "message": "is missing"}],
        "",
    )
    assert [(one.name, one.sent, one.expects, one.problem) for one in found] == [
        ("id", "1", "text", ""),
        ("email", "x", "e-mail address", "is none"),
        ("more", "1", "", ""),
        ("name", None, "text; required", "is missing"),
    ]


def test_without_problems_by_field_the_message_names_the_field() -> None:
    [one] = views('{"a": ""}', {"a": "text"}, [], "a: 'a' is null or empty")
    assert (one.sent, one.problem) == ('""', "'a' is null or empty")


def test_what_is_no_object_has_no_fields_but_those_that_it_lacks() -> None:
    assert [one.sent for one in views("[1, 2]", {"a": "text"}, [], "not_an_object")] == [None]


def test_an_edit_is_told_by_member_and_as_a_command_line() -> None:
    before, after = '{"a": "1", "b": 2}', '{"a": "it\'s", "b": 2, "c": "new"}'
    assert changes(before, after) == [("a", "1", "it's"), ("c", None, "new")]
    assert edit_command(7, before, after) == """headrace failures edit 7 --set 'a=it'"'"'s' --set c=new"""
    assert edit_command(7, before, '{"a": "1", "b": 3}') == "headrace failures edit 7 --file corrected.json"
    assert changes("x", "x") == []


def test_numbers_of_an_answer_stay_numbers_with_their_digits() -> None:
    value = {"price": Decimal("34.50"), "text": "34.50", "many": 10**30}
    assert as_json(value) == '{"price":34.50,"text":"34.50","many":1000000000000000000000000000000}'


def test_what_would_be_sent_differs_by_what_it_says_and_not_by_how_it_is_written() -> None:
    came = {"encoding": "utf-8", "content": '{"a":{"b":1.50},"c":"x"}'}
    edited = {"encoding": "utf-8", "content": '{"a":{"b":2},"c":"x"}'}
    shown = '{\n  "a": {\n    "b": 1.50\n  },\n  "c": "x"\n}'
    assert not differs({"payload": came, "edited_payload": None}, shown)
    assert differs({"payload": came, "edited_payload": edited}, shown)
    assert not differs({"payload": None, "edited_payload": None}, "")
