import json
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from standardwebhooks import Webhook, WebhookVerificationError

from ingest.api_keys import BASE62, ApiKey, Keyring, digest_of, spell_key
from ingest.auth import Access, Caller, Forbidden, Modes
from ingest.record import InvalidRecord
from ingest.signatures import Secrets, SigningSecret
from ingest.unauthorized import Unauthorized

NOW = datetime.now(UTC).replace(microsecond=0)  # the oracle looks at the clock
BODY = json.dumps({"email": "amari_koss69@northwind.dev", "metric": "program quantify", "quantity": 195.84}).encode()

ONE_PROJECT = spell_key("aaaaaaaa", "1" * 43)
ALL_PROJECTS = spell_key("bbbbbbbb", "2" * 43)
EXPIRED = spell_key("cccccccc", "3" * 43)
REVOKED = spell_key("dddddddd", "4" * 43)
FORGED = spell_key("aaaaaaaa", "5" * 43)
NOT_ASCII = ONE_PROJECT.replace("1", "\u0661")  # a digit, too

KEYRING = Keyring.of(
    [
        ApiKey("aaaaaaaa", digest_of(ONE_PROJECT), frozenset({"p", "q"})),
        ApiKey("bbbbbbbb", digest_of(ALL_PROJECTS), None, NOW + timedelta(seconds=1)),
        ApiKey("cccccccc", digest_of(EXPIRED), frozenset({"p"}), NOW),
    ]
)
OLD, NEW, OF_Q, ENDED = (bytes([number]) * 32 for number in range(4))
SECRETS = Secrets(
    {
        "p": (SigningSecret("old", OLD), SigningSecret("new", NEW), SigningSecret("ended", ENDED, NOW)),
        "q": (SigningSecret("of-q", OF_Q),),
    }
)


def access(modes: str) -> Access:
    return Access(Modes.parse(modes), KEYRING, SECRETS)


def call(
    modes: str, *headers: tuple[str, str], body: bytes = BODY, project_id: str = "p", now: datetime = NOW
) -> Caller:
    return access(modes).check_headers(CIMultiDict(headers), project_id, now).prove(body)


def refusal(modes: str, *headers: tuple[str, str], **more: Any) -> Unauthorized:
    with pytest.raises(Unauthorized) as error:
        call(modes, *headers, **more)
    return error.value


def signed(
    *secrets: bytes, webhook_id: str = "msg_1", at: datetime = NOW, body: bytes = BODY, **changes: str
) -> list[tuple[str, str]]:
    """The headers that the published package makes."""
    signatures = [Webhook(secret).sign(webhook_id, at, body.decode()) for secret in secrets]
    headers = {"id": webhook_id, "timestamp": str(int(at.timestamp())), "signature": " ".join(signatures), **changes}
    return [(f"webhook-{name}", value) for name, value in headers.items()]


@pytest.mark.parametrize(
    ("text", "modes"),
    [
        ("open", Modes(open=True)),
        ("api-key", Modes(api_key=True)),
        (" signature , open ", Modes(open=True, signature=True)),
        ("open,api-key,signature,open", Modes(open=True, api_key=True, signature=True)),
    ],
)
def test_modes_are_read_from_a_comma_list(text: str, modes: Modes) -> None:
    assert Modes.parse(text) == modes
    assert Modes.parse(str(modes)) == modes


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("api_key", "word 1 is none of them; did you mean api-key?"),
        ("open,Signature", "word 2 is none of them; did you mean signature?"),
        ("open,", "word 2 is none of them"),
        ("", "word 1 is none of them"),
        (ONE_PROJECT, "word 1 is none of them"),
    ],
)
def test_a_wrong_mode_is_refused_with_a_sentence_that_does_not_repeat_it(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match="comma list of open, api-key, signature") as error:
        Modes.parse(text)
    assert str(error.value).endswith(hint)


def test_where_no_mode_is_on_nobody_comes_in() -> None:
    with pytest.raises(Unauthorized):
        Access(Modes()).check_headers(CIMultiDict(), "p", NOW)


@pytest.mark.parametrize("modes", ["open", "open,api-key", "open,signature", "open,api-key,signature"])
def test_an_open_door_lets_in_who_shows_nothing(modes: str) -> None:
    assert call(modes) == Caller(authenticated=False, credential=None, default_key=None)


@pytest.mark.parametrize(
    ("modes", "challenges", "advice"),
    [
        ("api-key", ["Bearer"], ["X-API-Key"]),
        ("signature", ["StandardWebhooks"], ["Standard Webhooks"]),
        ("api-key,signature", ["Bearer", "StandardWebhooks"], ["X-API-Key", "Standard Webhooks"]),
    ],
)
def test_who_shows_nothing_at_a_closed_door_is_told_what_to_send(
    modes: str, challenges: Sequence[str], advice: Sequence[str]
) -> None:
    error = refusal(modes)
    assert error.why == "missing"
    assert [challenge.split()[0] for challenge in error.headers["WWW-Authenticate"].split(", ")] == challenges
    assert all(words in str(error) for words in advice)


@pytest.mark.parametrize(
    "header",
    [
        ("X-API-Key", ONE_PROJECT),
        ("x-api-key", f" {ONE_PROJECT} "),
        ("Authorization", f"Bearer {ONE_PROJECT}"),
        ("authorization", f"bEARER  {ONE_PROJECT}"),
    ],
)
@pytest.mark.parametrize("modes", ["api-key", "open,api-key", "api-key,signature"])
def test_a_valid_key_lets_its_caller_in(modes: str, header: tuple[str, str]) -> None:
    assert call(modes, header) == Caller(authenticated=True, credential="api-key:aaaaaaaa")


def test_a_key_is_for_its_projects_only() -> None:
    assert call("api-key", ("X-API-Key", ONE_PROJECT), project_id="q").authenticated
    assert call("api-key", ("X-API-Key", ALL_PROJECTS), project_id="z").authenticated
    with pytest.raises(Forbidden, match="not valid for this project"):
        call("open,api-key", ("X-API-Key", ONE_PROJECT), project_id="z")


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", "malformed"),
        ("secret", "malformed"),
        (ONE_PROJECT[:-1], "malformed"),
        (ONE_PROJECT + "0", "malformed"),
        (ONE_PROJECT.swapcase(), "malformed"),
        (NOT_ASCII, "malformed"),
        ("\udcff" * 60, "malformed"),
        (FORGED, "unknown"),
        (REVOKED, "unknown"),
    ],
)
@pytest.mark.parametrize("modes", ["api-key", "open,api-key"])
def test_a_wrong_key_is_refused_with_one_and_the_same_answer(modes: str, key: str, why: str) -> None:
    error = refusal(modes, ("Authorization", f"Bearer {key}"))
    reference = refusal("api-key", ("X-API-Key", REVOKED))
    assert error.why == why
    assert (str(error), error.headers["WWW-Authenticate"]) == (str(reference), reference.headers["WWW-Authenticate"])
    assert error.headers["WWW-Authenticate"] == 'Bearer realm="usage-ingest", error="invalid_token"'


def test_a_key_ends_at_the_moment_it_expires() -> None:
    assert call("api-key", ("X-API-Key", EXPIRED), now=NOW - timedelta(microseconds=1)).authenticated
    assert refusal("api-key", ("X-API-Key", EXPIRED)).why == "expired"


@pytest.mark.parametrize("position", [7, 20, 55, -1])
@pytest.mark.parametrize("replacement", ["x", "_", "é", ""])
def test_a_typing_error_is_told_from_an_unknown_key(position: int, replacement: str) -> None:
    key = list(REVOKED)
    key[position] = replacement
    assert refusal("api-key", ("X-API-Key", "".join(key))).why == "malformed"


@given(st.text(BASE62, min_size=8, max_size=8), st.text(BASE62, min_size=32, max_size=64))
def test_every_key_that_was_spelled_is_recognised(key_id: str, secret: str) -> None:
    key = spell_key(key_id, secret)
    keyring = Keyring.of([ApiKey(key_id, digest_of(key), None)])
    assert keyring.identify(key, NOW).id == key_id


@pytest.mark.parametrize("other", [FORGED, EXPIRED, "x"])
def test_every_key_that_is_shown_must_be_valid(other: str) -> None:
    for headers in (
        [("X-API-Key", ONE_PROJECT), ("Authorization", f"Bearer {other}")],
        [("X-API-Key", other), ("Authorization", f"Bearer {ONE_PROJECT}")],
        [("X-API-Key", ONE_PROJECT), ("X-API-Key", other)],
    ):
        refusal("open,api-key", *headers)


def test_every_key_that_is_shown_must_be_for_the_project() -> None:
    with pytest.raises(Forbidden):
        call("api-key", ("X-API-Key", ALL_PROJECTS), ("Authorization", f"Bearer {ONE_PROJECT}"), project_id="z")


@pytest.mark.parametrize(
    ("modes", "headers"),
    [
        ("open", [("X-API-Key", "wrong"), ("Authorization", "Bearer wrong"), ("webhook-signature", "wrong")]),
        ("open,signature", [("X-API-Key", "wrong"), ("Authorization", "Bearer wrong")]),
        ("open,api-key", [("webhook-id", "x"), ("webhook-signature", "wrong")]),
        ("open,api-key", [("Authorization", "Basic dXNlcjpwYXNz")]),
    ],
)
def test_a_credential_of_a_mode_that_is_off_is_not_looked_at(modes: str, headers: list[tuple[str, str]]) -> None:
    assert call(modes, *headers) == Caller()


@pytest.mark.parametrize("secret", [OLD, NEW])
@pytest.mark.parametrize("modes", ["signature", "open,signature", "api-key,signature"])
def test_a_valid_signature_lets_its_caller_in_with_a_default_key(modes: str, secret: bytes) -> None:
    name = {OLD: "old", NEW: "new"}[secret]
    assert call(modes, *signed(secret)) == Caller(
        authenticated=True, credential=f"signature:{name}", default_key="msg_1"
    )


@pytest.mark.parametrize("secrets", [(OF_Q, NEW), (NEW, OF_Q), (OLD, NEW)])
def test_one_of_several_signatures_is_enough(secrets: tuple[bytes, ...]) -> None:
    headers = signed(*secrets)
    headers[2] = ("webhook-signature", f"v1a,other v2,other v1,short v1 {headers[2][1]}")
    assert call("signature", *headers).authenticated


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        (signed(OF_Q), "mismatch"),
        (signed(ENDED), "mismatch"),
        (signed(NEW, body=BODY + b" "), "mismatch"),
        (signed(NEW, id="msg_2"), "mismatch"),
        (signed(NEW, timestamp=str(int(NOW.timestamp()) + 1)), "mismatch"),
        (signed(NEW, timestamp=f"0{int(NOW.timestamp())}"), "mismatch"),
        (signed(NEW)[1:], "malformed"),
        (signed(NEW)[:2], "malformed"),
        (signed(NEW)[:1], "malformed"),
        ([*signed(NEW), ("Webhook-Id", "msg_1")], "malformed"),
        (signed(NEW, id=""), "malformed"),
        (signed(NEW, webhook_id="x" * 256), "malformed"),
        (signed(NEW, webhook_id="a\tb"), "malformed"),
        (signed(NEW, id="\udcff"), "malformed"),
        (signed(NEW, timestamp="soon"), "malformed"),
        (signed(NEW, timestamp=f"{NOW.timestamp()}"), "malformed"),
        (signed(NEW, timestamp="\u0661\u0667" + "\u0660" * 8), "malformed"),
        (signed(NEW, timestamp="-1"), "malformed"),
        (signed(NEW, timestamp="9" * 5000), "malformed"),
        (signed(NEW, timestamp="9" * 12), "stale"),
        (signed(NEW, timestamp="0"), "stale"),
        (signed(NEW, signature=""), "malformed"),
        (signed(NEW, signature="v1,é"), "malformed"),
        (signed(NEW, signature="v1"), "malformed"),
        (signed(NEW, signature="v2," + "A" * 43 + "="), "malformed"),
        (signed(NEW, signature="v1," + "A" * 43 + "="), "mismatch"),
    ],
)
@pytest.mark.parametrize("modes", ["signature", "open,signature"])
def test_a_wrong_signature_is_refused(modes: str, headers: list[tuple[str, str]], why: str) -> None:
    error = refusal(modes, *headers)
    assert error.why == why
    assert error.headers["WWW-Authenticate"] == 'StandardWebhooks realm="usage-ingest"'


def test_what_is_wrong_with_the_headers_is_found_without_the_body() -> None:
    for headers in (signed(NEW)[1:], signed(NEW, timestamp="0"), signed(NEW, signature="v1")):
        with pytest.raises(Unauthorized):
            access("signature").check_headers(CIMultiDict(headers), "p", NOW)


@pytest.mark.parametrize("direction", [-1, 1])
def test_a_signature_holds_for_five_minutes_either_way(direction: int) -> None:
    now = NOW + direction * timedelta(minutes=5)
    assert call("signature", *signed(NEW), now=now).authenticated
    assert refusal("signature", *signed(NEW), now=now + direction * timedelta(milliseconds=1)).why == "stale"


@pytest.mark.parametrize("project_id", ["q", "nobody's"])
def test_what_was_signed_for_one_project_is_not_taken_for_another(project_id: str) -> None:
    assert refusal("signature", *signed(NEW), project_id=project_id).why == "mismatch"


def test_who_shows_a_key_as_well_as_a_signature_needs_both_to_be_valid() -> None:
    key = ("X-API-Key", ONE_PROJECT)
    assert call("api-key,signature", key, *signed(NEW)) == Caller(
        authenticated=True, credential="api-key:aaaaaaaa", default_key="msg_1"
    )
    refusal("api-key,signature", key, *signed(OF_Q))
    refusal("api-key,signature", ("X-API-Key", FORGED), *signed(NEW))
    with pytest.raises(Forbidden):
        call("api-key,signature", key, *signed(OF_Q), project_id="z")


@given(
    webhook_id=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=255),
    body=st.text().map(str.encode),
    offset=st.integers(-290, 290),
)
def test_the_published_package_signs_what_we_accept(webhook_id: str, body: bytes, offset: int) -> None:
    headers = signed(NEW, webhook_id=webhook_id, body=body, at=NOW + timedelta(seconds=offset))
    assert call("signature", *headers, body=body).default_key == webhook_id


@given(webhook_id=st.text("abc.123", min_size=1), body=st.text())
def test_the_published_package_accepts_what_we_sign(webhook_id: str, body: str) -> None:
    timestamp = str(int(datetime.now(UTC).timestamp()))
    signature = SigningSecret("new", NEW).sign(f"{webhook_id}.{timestamp}.".encode(), body.encode())
    headers = {
        "webhook-id": webhook_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{signature.decode()}",
    }
    Webhook(f"whsec_{b64encode(NEW).decode()}").verify(body, headers, json_parse=False)


@given(
    tokens=st.permutations([NEW, OF_Q, b"x"]),
    separator=st.sampled_from([" ", ",", ""]),
    webhook_id=st.sampled_from(["msg_1", "msg_2"]),
    offset=st.sampled_from([0, 1, -400, 400]),
)
def test_the_published_package_agrees_on_who_is_let_in(
    tokens: list[bytes], separator: str, webhook_id: str, offset: int
) -> None:
    at = datetime.now(UTC).replace(microsecond=0)  # the other tests may have taken longer than a signature holds
    texts = {secret: signed(secret, at=at)[2][1] for secret in (NEW, OF_Q)} | {b"x": "v2,x"}
    signature = separator.join(texts[token] for token in tokens)
    headers = signed(id=webhook_id, timestamp=str(int(at.timestamp()) + offset), signature=signature)
    try:
        Webhook(NEW).verify(BODY, dict(headers), json_parse=False)
    except (WebhookVerificationError, ValueError):  # the second for a header that it cannot read
        refusal("signature", *headers, now=datetime.now(UTC))
    else:
        assert call("signature", *headers, now=datetime.now(UTC)).authenticated


HEADER_NAMES = st.sampled_from(["X-API-Key", "Authorization", "webhook-id", "webhook-timestamp", "webhook-signature"])


@given(st.lists(st.tuples(HEADER_NAMES, st.text(st.characters(codec=None)) | st.text(BASE62 + " ,_=.+/"))), st.binary())
def test_any_headers_lead_to_a_caller_or_a_refusal(headers: list[tuple[str, str]], body: bytes) -> None:
    with suppress(Unauthorized):
        assert call("open,api-key,signature", *headers, body=body) == Caller()


@pytest.mark.parametrize(
    ("default_key", "header_key", "expected"),
    [(None, None, None), (None, "order-42", "order-42"), ("msg_1", None, "msg_1"), ("msg_1", "msg_1", "msg_1")],
)
def test_the_signed_key_stands_for_the_unsigned_one(
    default_key: str | None, header_key: str | None, expected: str | None
) -> None:
    assert Caller(default_key=default_key).key_beside(header_key) == expected


@pytest.mark.parametrize("header_key", ["order-42", "", "MSG_1"])
def test_an_unsigned_key_beside_a_signature_is_refused(header_key: str) -> None:
    with pytest.raises(InvalidRecord) as error:
        Caller(authenticated=True, default_key="msg_1").key_beside(header_key)
    assert set(error.value.details) == {"Idempotency-Key"}


def test_a_signed_key_must_leave_room_for_what_is_appended_to_it() -> None:
    assert Caller(default_key="x" * 250).key_beside(None, longest=250) == "x" * 250
    with pytest.raises(InvalidRecord) as error:
        Caller(default_key="x" * 251).key_beside(None, longest=250)
    assert error.value.details == {"webhook-id": "must not be longer than 250 characters here"}


def test_no_secret_shows_in_what_may_be_logged() -> None:
    claim = access("signature").check_headers(CIMultiDict(signed(NEW)), "p", NOW)
    shown = f"{access('api-key,signature')!r} {claim!r} {SECRETS.live('p', NOW)!r} {KEYRING.keys['aaaaaaaa']!r}"
    for secret in (OLD, NEW, digest_of(ONE_PROJECT)):
        assert repr(secret) not in shown
        assert secret.hex() not in shown
    assert signed(NEW)[2][1].removeprefix("v1,") not in shown
    assert ONE_PROJECT not in shown
