"""Who may record for which project."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from difflib import get_close_matches
from typing import Final, Self

from ingest.api_keys import Headers, Keyring, presented_keys
from ingest.record import InvalidRecord
from ingest.signatures import Secrets, Signed, SigningSecret
from ingest.unauthorized import BEARER, WEBHOOK, Unauthorized

_FIELD_OF: Final = {"open": "open", "api-key": "api_key", "signature": "signature"}


class Forbidden(Exception):
    """The credential is valid, but not for this project."""


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
class Claim:
    """What the headers say about the caller; where they say it by a signature, the body is still to prove it."""

    _caller: Caller
    _signed: Signed | None = None
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
        signed = Signed.read(headers, now) if modes.signature else None
        keys = [self.keyring.identify(text, now) for text in presented_keys(headers)] if modes.api_key else []
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
