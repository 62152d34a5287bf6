"""Signatures by Standard Webhooks: which secret a request was signed with."""

import hmac
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from secrets import token_bytes
from types import MappingProxyType
from typing import Final, Self

from pydantic import TypeAdapter, ValidationError

from contract.fields import RULES, IdempotencyKey
from ingest.api_keys import Headers
from ingest.unauthorized import WEBHOOK, Unauthorized, Why

TOLERANCE: Final = timedelta(minutes=5)
"""How far a signature's timestamp may lie from now, either way: what Standard Webhooks recommends."""

SIGNATURE_HEADERS: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")

_UNIX_SECONDS: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
_SIGNATURE: Final = re.compile(r"v1,([A-Za-z0-9+/]{43}=)", re.ASCII)
_WEBHOOK_ID: Final[TypeAdapter[str]] = TypeAdapter(IdempotencyKey)


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
class Signed:
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
