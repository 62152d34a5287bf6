"""Who may record for which project."""

import hmac
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from difflib import get_close_matches
from hashlib import sha256
from secrets import token_bytes
from string import ascii_lowercase, ascii_uppercase, digits
from types import MappingProxyType
from typing import Final, Literal, Protocol, Self
from zlib import crc32

from pydantic import TypeAdapter, ValidationError

from contract.fields import RULES, IdempotencyKey
from ingest.record import InvalidRecord

BASE62: Final = digits + ascii_uppercase + ascii_lowercase
KEY_ID_LENGTH: Final = 8
TOLERANCE: Final = timedelta(minutes=5)
"""How far a signature's timestamp may lie from now, either way: what Standard Webhooks recommends."""

SIGNATURE_HEADERS: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")
BEARER: Final = 'Bearer realm="usage-ingest"'
WEBHOOK: Final = 'StandardWebhooks realm="usage-ingest"'
"""Not a registered scheme; HTTP wants a challenge with every 401, and there is none for signatures."""
_BAD_TOKEN: Final = f'{BEARER}, error="invalid_token"'

_KEY: Final = re.compile(rf"usage_([0-9A-Za-z]{{{KEY_ID_LENGTH}}})_[0-9A-Za-z]{{32,64}}_[0-9A-Za-z]{{6}}", re.ASCII)
_UNIX_SECONDS: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
_SIGNATURE: Final = re.compile(r"v1,([A-Za-z0-9+/]{43}=)", re.ASCII)
_WEBHOOK_ID: Final[TypeAdapter[str]] = TypeAdapter(IdempotencyKey)
_FIELD_OF: Final = {"open": "open", "api-key": "api_key", "signature": "signature"}

Why = Literal["missing", "malformed", "unknown", "expired", "mismatch", "stale"]
"""What was wrong with a credential: for logs and metrics, more than the client is told."""


class Unauthorized(Exception):
    """The request has no credential, or one that is not valid; the text says what to send.

    `headers` are for the answer: HTTP wants a challenge with every 401.
    """

    def __init__(self, sentence: str, *, why: Why, challenge: str) -> None:
        super().__init__(sentence)
        self.why = why
        self.headers = {"WWW-Authenticate": challenge}


class Forbidden(Exception):
    """The credential is valid, but not for this project."""


class Headers(Protocol):
    """What is needed of a request's headers: every value of a name, whatever its case."""

    def getall(self, key: str, default: tuple[()], /) -> Sequence[str]:
        """The values in their order."""


@dataclass(frozen=True, slots=True)
class Modes:
    """Which ways in there are; with none, nobody comes in."""

    open: bool = False
    api_key: bool = False
    signature: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a comma list of `open`, `api-key`, `signature`; raises ValueError with a sentence.

        The sentence does not repeat the word: it may be a key that was put into the wrong variable.
        """
        words = [word.strip() for word in text.split(",")]
        for place, word in enumerate(words, 1):
            if word not in _FIELD_OF:
                nearest = get_close_matches(word.lower().replace("_", "-")[:20], _FIELD_OF, n=1)
                hint = f"; did you mean {nearest[0]}?" if nearest else ""
                raise ValueError(f"must be a comma list of {', '.join(_FIELD_OF)}: word {place} is none of them{hint}")
        return cls(**dict.fromkeys((_FIELD_OF[word] for word in words), True))

    def __str__(self) -> str:
        return ",".join(word for word, name in _FIELD_OF.items() if getattr(self, name))


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request, as far as we know.

    `credential` is a name without a secret in it, for rate limits and logs. `default_key` is the idempotency key that
    came signed with the request.
    """

    authenticated: bool = False
    credential: str | None = None
    default_key: str | None = None

    def key_beside(self, header_key: str | None, *, longest: int = 255) -> str | None:
        """The key for a record that has none of its own, given that of the header Idempotency-Key.

        Raises InvalidRecord where that header could change what a signature was given for: it is not signed, so a
        signed request replayed with another one would count again. Likewise for a signed key of more than `longest`
        characters.
        """
        if self.default_key is None:
            return header_key
        if len(self.default_key) > longest:
            raise InvalidRecord({"webhook-id": f"must not be longer than {longest} characters here"})
        if header_key is not None and header_key != self.default_key:
            raise InvalidRecord({"Idempotency-Key": "must be left out of a signed request, or equal webhook-id"})
        return self.default_key


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key as it is kept: its hash. `projects` None is all of them."""

    id: str
    digest: bytes = field(repr=False)
    projects: frozenset[str] | None
    expires_at: datetime | None = None

    def covers(self, project_id: str) -> bool:
        """Whether it may record for a project."""
        return self.projects is None or project_id in self.projects


# What an unknown id is compared with, so that it takes as long as a known one. Nobody has a key or secret for it.
_NO_KEY: Final = ApiKey("", token_bytes(32), frozenset())


def spell_key(key_id: str, secret: str) -> str:
    """Write an API key so that scanners recognise it and a typing error is told from a revoked key."""
    body = f"usage_{key_id}_{secret}"
    return f"{body}_{_checksum(body)}"


def digest_of(key: str) -> bytes:
    """What is kept of a key. It is long and random, so nothing slower than SHA-256 is gained."""
    return sha256(key.encode("ascii")).digest()


def _id_of(key: str) -> str | None:
    match = _KEY.fullmatch(key)
    if match is None or key[-6:] != _checksum(key[:-7]):
        return None
    return match[1]


def _checksum(text: str) -> str:
    rest, symbols = crc32(text.encode("ascii")), ""
    for _ in range(6):
        rest, symbol = divmod(rest, 62)
        symbols = BASE62[symbol] + symbols
    return symbols


@dataclass(frozen=True, slots=True)
class Keyring:
    """The API keys there are, by their ids."""

    keys: Mapping[str, ApiKey] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, keys: Iterable[ApiKey]) -> Self:
        """Hold these keys."""
        return cls(MappingProxyType({key.id: key for key in keys}))

    def identify(self, text: str, now: datetime) -> ApiKey:
        """Find whose key this is; raises Unauthorized.

        The answer to a mistyped, a revoked and a made-up key is the same. That a key has expired learns only who has
        all of it.
        """
        key_id = _id_of(text)
        if key_id is None:
            raise _refuse_key("malformed")
        key = self.keys.get(key_id, _NO_KEY)
        if not hmac.compare_digest(digest_of(text), key.digest) or key is _NO_KEY:
            raise _refuse_key("unknown")
        if key.expires_at is not None and key.expires_at <= now:
            raise Unauthorized("the API key has expired: use a newer one", why="expired", challenge=_BAD_TOKEN)
        return key


def _refuse_key(why: Why) -> Unauthorized:
    sentence = "the API key is not valid: check that it is complete and has not been revoked"
    return Unauthorized(sentence, why=why, challenge=_BAD_TOKEN)


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """A secret that one project's sender shares with us."""

    id: str
    key: bytes = field(repr=False)
    expires_at: datetime | None = None

    def sign(self, prefix: bytes, body: bytes) -> bytes:
        """The signature of both in Base64, without its version."""
        mac = hmac.new(self.key, prefix, sha256)
        mac.update(body)
        return b64encode(mac.digest())

    def is_live(self, now: datetime) -> bool:
        """Whether it still counts."""
        return self.expires_at is None or now < self.expires_at


_NO_SECRET: Final = SigningSecret("", token_bytes(32))


@dataclass(frozen=True, slots=True)
class Secrets:
    """The signing secrets there are, by their project."""

    by_project: Mapping[str, tuple[SigningSecret, ...]] = field(default_factory=lambda: MappingProxyType({}))

    def live(self, project_id: str, now: datetime) -> tuple[SigningSecret, ...]:
        """What a project's signatures may be made with: at least one, to compare with."""
        found = self.by_project.get(project_id, ())
        return tuple(secret for secret in found if secret.is_live(now)) or (_NO_SECRET,)


@dataclass(frozen=True, slots=True)
class _Signed:
    """The three headers of Standard Webhooks, each by itself in order."""

    webhook_id: str
    timestamp: str
    signatures: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def read(cls, headers: Headers, now: datetime) -> Self | None:
        """Return None when none of them is there; raises Unauthorized.

        One or two of them are a signed request that lost something on its way, not an unsigned one.
        """
        values = [headers.getall(name, ()) for name in SIGNATURE_HEADERS]
        if not any(values):
            return None
        if any(len(value) != 1 for value in values):
            raise _refuse_signature(f"{', '.join(SIGNATURE_HEADERS)} must each be sent once", "malformed")
        (webhook_id,), (timestamp,), (signatures,) = values
        _check_webhook_id(webhook_id)
        _check_timestamp(timestamp, now)
        return cls(webhook_id, timestamp, _read_signatures(signatures))

    def verify(self, body: bytes, secrets: Sequence[SigningSecret]) -> SigningSecret:
        """Find the secret that the body was signed with; raises Unauthorized."""
        prefix = f"{self.webhook_id}.{self.timestamp}.".encode()
        verified = _NO_SECRET
        for secret in secrets:  # all of them, whichever it was
            expected = secret.sign(prefix, body)
            for signature in self.signatures:
                if hmac.compare_digest(expected, signature):
                    verified = secret
        if verified is _NO_SECRET:
            raise _refuse_signature(
                "webhook-signature does not match: sign `webhook-id.webhook-timestamp.body`, the body's bytes as they "
                "are sent, with a secret of this project",
                "mismatch",
            )
        return verified


def _check_webhook_id(text: str) -> None:
    # It has to serve as the idempotency key; without one, a replay would count again.
    try:
        _WEBHOOK_ID.validate_python(text)
    except ValidationError:
        raise _refuse_signature(f"webhook-id {RULES['idempotencyKey']}", "malformed") from None


def _check_timestamp(text: str, now: datetime) -> None:
    if not _UNIX_SECONDS.fullmatch(text):
        raise _refuse_signature("webhook-timestamp must be the seconds since 1970, like 1769860800", "malformed")
    if abs(now.timestamp() - int(text)) > TOLERANCE.total_seconds():
        raise _refuse_signature(
            "webhook-timestamp must be within 5 minutes of now: sign again, and check your clock", "stale"
        )


def _read_signatures(text: str) -> tuple[bytes, ...]:
    """The signatures of version 1; those of other versions are for other readers."""
    matches = map(_SIGNATURE.fullmatch, text.split(" "))
    signatures = tuple(match[1].encode("ascii") for match in matches if match)
    if not signatures:
        raise _refuse_signature(
            "webhook-signature must hold a signature like v1,<44 characters of Base64>", "malformed"
        )
    return signatures


def _refuse_signature(sentence: str, why: Why) -> Unauthorized:
    return Unauthorized(sentence, why=why, challenge=WEBHOOK)


@dataclass(frozen=True, slots=True)
class Claim:
    """What the headers say about the caller; where they say it by a signature, the body is still to prove it."""

    _caller: Caller
    _signed: _Signed | None = None
    _secrets: tuple[SigningSecret, ...] = ()

    def prove(self, body: bytes) -> Caller:
        """Who sends these bytes, which are the body as it was received, not inflated; raises Unauthorized."""
        if self._signed is None:
            return self._caller
        secret = self._signed.verify(body, self._secrets)
        return replace(
            self._caller,
            authenticated=True,
            credential=self._caller.credential or f"signature:{secret.id}",
            default_key=self._signed.webhook_id,
        )


_ANYBODY: Final = Claim(Caller())


@dataclass(frozen=True, slots=True)
class Access:
    """Who is let in: the modes that are on, with what they check against."""

    modes: Modes
    keyring: Keyring = field(default_factory=Keyring)
    secrets: Secrets = field(default_factory=Secrets)

    def check_headers(self, headers: Headers, project_id: str, now: datetime) -> Claim:
        """Decide what can be decided before the body is read; raises Unauthorized, Forbidden.

        `project_id` as it is stored. Every credential of a mode that is on must be valid, also where none is needed: a
        caller whose key is wrong would otherwise never learn it. Those of other modes are not looked at.
        """
        modes = self.modes
        if modes.open and not (modes.api_key or modes.signature):
            return _ANYBODY
        signed = _Signed.read(headers, now) if modes.signature else None
        keys = [self.keyring.identify(text, now) for text in _presented_keys(headers)] if modes.api_key else []
        if not keys and signed is None:
            return self._without_credential()
        if not all(key.covers(project_id) for key in keys):
            raise Forbidden("the API key is not valid for this project: use one that was created for it")
        caller = Caller(authenticated=True, credential=f"api-key:{keys[0].id}") if keys else Caller()
        return Claim(caller, signed, () if signed is None else self.secrets.live(project_id, now))

    def _without_credential(self) -> Claim:
        if self.modes.open:
            return _ANYBODY
        ways, challenges = [], []
        if self.modes.api_key:
            ways.append("send an API key in X-API-Key, or in Authorization as Bearer")
            challenges.append(BEARER)
        if self.modes.signature:
            ways.append("sign the request by Standard Webhooks")
            challenges.append(WEBHOOK)
        sentence = f"a credential is required: {', or '.join(ways)}"
        raise Unauthorized(sentence, why="missing", challenge=", ".join(challenges))


def _presented_keys(headers: Headers) -> list[str]:
    """Every API key of a request, once."""
    keys = [text.strip() for text in headers.getall("X-API-Key", ())]
    for text in headers.getall("Authorization", ()):
        scheme, _, token = text.strip().partition(" ")
        if scheme.lower() == "bearer":
            keys.append(token.strip())
    return list(dict.fromkeys(keys))
