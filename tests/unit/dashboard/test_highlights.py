from dashboard.highlights import pieces


def test_only_marks_of_the_api_mark_and_everything_else_is_text() -> None:
    assert pieces("Larry <em>Smith</em> &lt;em&gt;no&lt;/em&gt; &amp; <b>") == [
        ("Larry ", False), ("Smith", True), (" <em>no</em> & <b>", False),
    ]  # fmt: skip
