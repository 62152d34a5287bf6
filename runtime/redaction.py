"""What must not be read in a log, taken out of it."""

import re
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import unquote

HIDDEN: Final = "***"

_SHORTEST: Final = 4
"""Characters of a password that is looked for as it is: a shorter one would be found in any word."""
_KNOWN_TO_ALL: Final = frozenset({"guest"})
"""What RabbitMQ is delivered with; it is the user's name, too."""

# Bounded, each of them, so that no text takes more than linear time.
_VALUE: Final = (
    r"""(?:"(?:[^"\\]|\\.){0,2000}"|'(?:[^'\\]|\\.){0,2000}'"""
    r"""|v1,[A-Za-z0-9+/=]{0,2000}|[^\s,;&}\])"'][^\s,;&}\])"]{0,2000})"""
)
_PATTERN: Final = re.compile(
    r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]{1,20}://)(?P<rest>[^\s\"'<>]{0,2000})"
    r"|[A-Za-z0-9.!#$%&*+/=?^_`{|}~-][A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{0,253}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,126}"
    r"|\busage_[0-9A-Za-z]{8}_[0-9A-Za-z_]{16,}"
    r"|\bwhsec_[A-Za-z0-9+/=]+"
    r"|\bv1,[A-Za-z0-9+/]{40,}=*"
    r"|(?P<before>\b(?i:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{6,}"
    rf"|(?P<name>\b(?i:idempotency[-_]?key|x-api-key|authorization|webhook-(?:id|signature)|e-?mail|password)"
    rf"""["']?\s{{0,3}}[:=]\s{{0,3}})(?:(?i:bearer|basic)\s+)?{_VALUE}"""
    r"|(?P<input>\binput_value=).{0,2000}?(?=, input_type=)",
    re.ASCII,
)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return `text` without e-mail addresses, credentials, idempotency keys, and the passwords and options of URLs.

    `secrets` are gone wherever they stand.
    """
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return _PATTERN.sub(_harmless, text)


def redact_value(value: Any, secrets: Iterable[str] = ()) -> Any:
    """The same for whatever may be logged: containers keep their shape, what is no plain value becomes text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(key): redact_value(one, secrets) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [redact_value(one, secrets) for one in value]
    return redact(str(value), secrets)


def secrets_of(url: str) -> frozenset[str]:
    """What is secret of a URL, which may name several hosts: as it is written, and as it is meant."""
    rest, _, options = url.partition("://")[2].partition("?")
    user = rest.rpartition("@")[0]
    pairs = (option.partition("=") for option in options.split("&"))
    found = {user.partition(":")[2], *(value for name, _, value in pairs if "password" in name.lower())}
    found |= {unquote(one) for one in found}
    return frozenset(one for one in found if len(one) >= _SHORTEST) - _KNOWN_TO_ALL


def _harmless(match: re.Match[str]) -> str:
    if match["scheme"] is not None:
        return match["scheme"] + _address(match["rest"])
    return (match["before"] or match["name"] or match["input"] or "") + HIDDEN


def _address(rest: str) -> str:
    """Host and path: a password may hold what ends it, so all up to the last @ is taken for one."""
    user, at, address = rest.rpartition("@")
    address, mark, _ = address.partition("?")
    return f"{HIDDEN if user else ''}{at}{address}{mark}{HIDDEN if mark else ''}"
