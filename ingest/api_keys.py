"""API keys: what they look like, whose they are."""

import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from secrets import token_bytes
from string import ascii_lowercase, ascii_uppercase, digits
from types import MappingProxyType
from typing import Final, Protocol, Self
from zlib import crc32

from ingest.unauthorized import BEARER, Unauthorized, Why

BASE62: Final = digits + ascii_uppercase + ascii_lowercase
KEY_ID_LENGTH: Final = 8
_BAD_TOKEN: Final = f'{BEARER}, error="invalid_token"'

_KEY: Final = re.compile(rf"usage_([0-9A-Za-z]{{{KEY_ID_LENGTH}}})_[0-9A-Za-z]{{32,64}}_[0-9A-Za-z]{{6}}", re.ASCII)


class Headers(Protocol):
    """What is needed of a request's headers: every value of a name, whatever its case."""

    def getall(self, key: str, default: tuple[()], /) -> Sequence[str]:
        """The values in their order."""


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


def presented_keys(headers: Headers) -> list[str]:
    """Every API key of a request, once."""
    keys = [text.strip() for text in headers.getall("X-API-Key", ())]
    for text in headers.getall("Authorization", ()):
        scheme, _, token = text.strip().partition(" ")
        if scheme.lower() == "bearer":
            keys.append(token.strip())
    return list(dict.fromkeys(keys))
