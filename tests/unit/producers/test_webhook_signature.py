"""Only who knows the secret gets in, and not with an old request."""

import base64
import hashlib
import hmac
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from producers.webhook.source import SignatureRefused, WebhookBlock

SECRET = "It's a Secret to Everybody"
NOW = 1_700_000_000


def documented(name: str) -> dict[str, Any]:
    """A block of docs/sources.md, without its secret."""
    [blocks] = re.findall(r"```toml\n(\[sources\.stripe\].*?)```", DOCUMENT, re.DOTALL)
    block: dict[str, Any] = tomllib.loads(blocks)["sources"][name]
    return {key: value for key, value in block.items() if key != "secret"}


DOCUMENT = (Path(__file__).parents[3] / "docs/sources.md").read_text()
STRIPE, STANDARD, SLACK, SHOPIFY = map(documented, ("stripe", "standard", "slack", "shopify"))
PADDLE = STRIPE | {
    "signature_header": "Paddle-Signature",
    "signature_separator": ";",
    "signature_prefix": "h1=",
    "timestamp_prefix": "ts=",
    "signed": "{timestamp}:{body}",
}


def check(body: bytes, headers: dict[str, str], now: float = NOW, **block: Any) -> None:
    values = {"kind": "webhook", "dataset": "records", "secret": SECRET, **block}
    WebhookBlock.model_validate(values).check_signature(body, Headers(headers), now)


def signed(content: bytes, secret: str = SECRET) -> bytes:
    return hmac.digest(secret.encode(), content, hashlib.sha256)


def test_the_example_of_githubs_documentation_is_right() -> None:
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    check(b"Hello, World!", {"x-hub-signature-256": f"sha256={digest}"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "the header X-Hub-Signature-256 is missing"),
        ("", "is missing"),
        (signed(b"body").hex(), "must be sha256=<hex of the HMAC-SHA256>"),
        ("sha256=", "is not that of this body"),
        ("sha256=xyz", "must be sha256="),
        ("sha256=é", "must be sha256="),
        ("sha1=" + "0" * 40, "must be sha256="),
        ("sha256=" + signed(b"body").hex()[:-2], "is not that of this body"),
        ("sha256=" + signed(b"body", "another secret, as long").hex(), "is not that of this body"),
    ],
)
def test_a_missing_or_wrong_signature_is_refused(given: str | None, message: str) -> None:
    with pytest.raises(SignatureRefused, match=message) as refusal:
        check(b"body", {} if given is None else {"X-Hub-Signature-256": given})
    assert SECRET not in str(refusal.value)
    assert signed(b"body").hex() not in str(refusal.value)


@given(body=st.binary(max_size=50), at=st.integers(0, 49), flip=st.integers(1, 255))
def test_no_byte_of_the_body_can_be_changed(body: bytes, at: int, flip: int) -> None:
    header = {"X-Hub-Signature-256": f"sha256={signed(body).hex()}"}
    check(body, header)
    changed = bytearray(body or b"x")
    changed[at % len(changed)] ^= flip
    with pytest.raises(SignatureRefused):
        check(bytes(changed), header)


def test_two_secrets_are_good_while_one_replaces_the_other() -> None:
    both = ["the old secret, long", "the new secret, long"]
    for secret in both:
        check(b"x", {"X-Hub-Signature-256": f"sha256={signed(b'x', secret).hex()}"}, secret=both)
    with pytest.raises(SignatureRefused):
        check(b"x", {"X-Hub-Signature-256": f"sha256={signed(b'x', 'yet another, long').hex()}"}, secret=both)


def test_shops_that_send_base64_without_a_prefix_are_understood() -> None:
    check(b"x", {"x-shopify-hmac-sha256": base64.b64encode(signed(b"x")).decode()}, **SHOPIFY)
    with pytest.raises(SignatureRefused, match="must be the <base64 of"):
        check(b"x", {"x-shopify-hmac-sha256": "not base64!"}, **SHOPIFY)


@pytest.mark.parametrize("age", [-300, 0, 300])
def test_a_timestamp_is_signed_with_the_body(age: int) -> None:
    sent = str(NOW - age)
    signature = f"v0={signed(f'v0:{sent}:'.encode() + b'{body} {timestamp}').hex()}"
    headers = {"X-Slack-Signature": signature, "X-Slack-Request-Timestamp": sent}
    check(b"{body} {timestamp}", headers, **SLACK)
    with pytest.raises(SignatureRefused, match="is not that of this body"):
        check(b"{body} {timestamp}", {**headers, "X-Slack-Request-Timestamp": str(NOW - 1)}, **SLACK)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (str(NOW - 301), "is 301 s away from this server's time, at most 300 s are tolerated"),
        (str(NOW + 301), "is 301 s away"),
        (None, "must be the time in seconds"),
        ("soon", "must be the time in seconds"),
        ("²", "must be the time in seconds"),
        ("9" * 5000, "must be the time in seconds"),
    ],
)
def test_a_request_that_is_too_old_cannot_be_sent_again(sent: str | None, message: str) -> None:
    headers = {"X-Slack-Signature": "v0=00"} | ({} if sent is None else {"X-Slack-Request-Timestamp": sent})
    with pytest.raises(SignatureRefused, match=message):
        check(b"x", headers, **SLACK)


@pytest.mark.parametrize("inside", [" ", "\t", "\n"])
def test_a_signature_has_one_form(inside: str) -> None:
    """Python's own reader of hexadecimal digits takes blanks between them; a test with random inputs found it."""
    text = signed(b"body").hex()
    check(b"body", {"X-Hub-Signature-256": f"sha256={text}"})
    with pytest.raises(SignatureRefused):
        check(b"body", {"X-Hub-Signature-256": f"sha256={text[:10]}{inside}{text[10:]}"})


@pytest.mark.parametrize(
    ("rule", "name", "text", "form"),
    [
        (STRIPE, "stripe-signature", "{0}.", "t={0},v1={1},v0={2}"),
        (STRIPE, "stripe-signature", "{0}.", "v1={2}, v1={1}, t={0}"),
        (PADDLE, "paddle-signature", "{0}:", "ts={0};h1={1}"),
    ],
    ids=["Stripe", "Stripe, while one secret replaces another", "Paddle"],
)
def test_a_header_may_have_the_time_and_several_signatures(
    rule: dict[str, Any], name: str, text: str, form: str
) -> None:
    def header(sent: int) -> dict[str, str]:
        right = signed(text.format(sent).encode() + b"{}").hex()
        return {name: form.format(sent, right, signed(b"another").hex())}

    check(b"{}", header(NOW - 300), **rule)
    with pytest.raises(SignatureRefused, match=r"t?s?= in .* is 301 s away"):
        check(b"{}", header(NOW - 301), **rule)
    with pytest.raises(SignatureRefused, match="is not that of this body"):
        check(b"{ }", header(NOW), **rule)
    later = {name: header(NOW - 301)[name].replace(str(NOW - 301), str(NOW))}
    with pytest.raises(SignatureRefused, match="is not that of this body"):
        check(b"{}", later, **rule)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (f"t={NOW}", "must have, between ',', v1=<hex of the HMAC-SHA256>"),
        (f"t={NOW},v1=xy", "must have, between ',', v1="),
        (f"t={NOW},v0={'00' * 32}", "must have, between ',', v1="),
        (f"t={NOW},v1=", "is not that of this body"),
        (f"v1={'00' * 32}", "t= in Stripe-Signature must be the time in seconds"),
        (f"t=soon,v1={'00' * 32}", "t= in Stripe-Signature must be the time in seconds"),
        (",,,", "must have"),
    ],
)
def test_a_header_of_several_members_that_lacks_one_is_refused(header: str, message: str) -> None:
    with pytest.raises(SignatureRefused, match=message):
        check(b"{}", {"Stripe-Signature": header}, **STRIPE)


def test_the_example_of_standard_webhooks_is_right_and_its_id_is_signed() -> None:
    """The vector of its reference libraries (github.com/standard-webhooks/standard-webhooks)."""
    rule = STANDARD | {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
    body, sent = b'{"test": 2432232314}', 1614265330
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": str(sent),
        "webhook-signature": f"v1a,{'hnO3' * 21}Ag== v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    check(body, headers, sent, **rule)
    with pytest.raises(SignatureRefused, match="is not that of this body"):
        check(body, {**headers, "webhook-id": "msg_another"}, sent, **rule)
    with pytest.raises(SignatureRefused, match="the header webhook-id is missing"):
        check(body, {name: value for name, value in headers.items() if name != "webhook-id"}, sent, **rule)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({**STRIPE, "timestamp_header": "X-Time"}, "expected one of them"),
        ({**STRIPE, "signature_separator": None}, "give signature_separator too"),
        ({**STRIPE, "signature_separator": ", "}, "signature_separator"),
        ({"signed": "{timestamp}.{body}"}, "belong together"),
        ({"signed": "{id}.{body}"}, "needs idempotency_header"),
        ({"secret_is_base64": True, "secret": "no base64 at all"}, "expected Base64 of 16 bytes or more"),
        ({"secret_is_base64": True, "secret": "whsec_whsec_whsec_"}, "expected Base64 of 16 bytes or more"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused_when_it_is_declared(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WebhookBlock.model_validate({"kind": "webhook", "dataset": "records", "secret": SECRET, **rule})
