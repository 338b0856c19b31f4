"""Passwords and tokens of URLs are in no message, no log line and no answer."""

import json
import subprocess
import sys

import pytest

from producers.source import SourceFailed
from runtime.server_addresses import without_secrets


@pytest.mark.parametrize(("text", "shown"), [
    ("https://ada:pass@host/feed answered 503", "https://***@host/feed answered 503"),
    ("https://tok_3n@host", "https://***@host"),
    ("https://ada:p@ss@host:8080/a", "https://***@host:8080/a"),
    ("https://host/a?api_key=tok3n&page=17: no JSON", "https://host/a?api_key=***&page=17: no JSON"),
    ("https://host/a?page=17&token=12ab", "https://host/a?page=17&token=***"),
    ("https://host/a#access_token=tok3n", "https://host/a#access_token=***"),
    ("HTTPS://ada:pass@HOST/a?KEY=x", "HTTPS://***@HOST/a?KEY=***"),
    ("two: redis://:pw@a/0 and postgresql://u:pw@b/c?password=pw", "two: redis://***@a/0 and postgresql://***@b/c?password=***"),
    ('{"url": "https://a:b@host/?k=v", "x": "y=z"}', '{"url": "https://***@host/?k=***", "x": "y=z"}'),
    ("https://host/a?token=123456.secret", "https://host/a?token=***"),
    ("https://host/a?key=123:sec,ret&limit=10", "https://host/a?key=***&limit=10"),
    ("https://host/a?token=abc:def; try later", "https://host/a?token=***; try later"),
    ("(see https://host/a?page=3), then", "(see https://host/a?page=3), then"),
    ("https://u:p'w@host/x", "https://***@host/x"),
    ("https://u:pa/ss@host/x", "https://***@host/x"),
    ("https://host/a?q", "https://host/a?q"),
    ("http://127.0.0.1:5000/customers?page=1&limit=100", "http://127.0.0.1:5000/customers?page=1&limit=100"),
    ("a@b.example and x=y", "a@b.example and x=y"),
])  # fmt: skip
def test_a_url_is_shown_without_what_is_secret(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_a_source_that_fails_does_not_tell_them() -> None:
    failed = SourceFailed("shop", "https://ada:pass-word@host/?token=tok3n answered 401")
    assert "pass-word" not in f"{failed} {failed.reason} {failed!r}"
    assert "tok3n" not in f"{failed} {failed.reason} {failed!r}"


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_log_line_has_them(form: str) -> None:
    program = (
        "import structlog, logging\n"
        "from runtime.logging import configure_logging\n"
        "from runtime.settings import load_settings\n"
        f"configure_logging(load_settings(log_format={form!r}), 'test')\n"
        "structlog.get_logger().info('read', url='https://ada:pass-word@host/a?token=tok3n')\n"
        "logging.getLogger('of.a.library').warning('cannot read %s', 'https://ada:pass-word@host/a?token=tok3n')\n"
        "try: raise ValueError('https://ada:pass-word@host/a?token=tok3n')\n"
        "except ValueError: structlog.get_logger().exception('failed')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "https://***@host/a?token=***" in done.stderr.replace("\x1b[0m", "")
    assert "pass-word" not in done.stderr
    assert "tok3n" not in done.stderr
    if form == "json":
        assert all(json.loads(line) for line in done.stderr.splitlines())


def test_looking_for_them_takes_no_longer_than_the_text_is_long() -> None:
    """A text of a megabyte that is nearly a URL all along; a pattern that backtracks would take minutes."""
    for text in (
        "a://" * 250_000,
        "https://" + "a@" * 500_000,
        "https://h/?" + "a=" * 500_000,
        "https://h/?" + "a=:" * 300_000,
        "x" * 1_000_000,
    ):
        without_secrets(text)
