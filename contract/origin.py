"""By which requests the events of a message came."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Final, TypeGuard

REQUESTS: Final = "usage-requests"
"""The header: ids of requests in the order of their events, by commas, `id:3` for one with three events."""

MOST_CHARACTERS: Final = 500 * 65
"""As many as 500 of the longest ids need: headers must fit into one frame. Of more the first are named."""

RULE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}(?::[0-9]{1,6})?(?:,[A-Za-z0-9._-]{1,64}(?::[0-9]{1,6})?)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an event came from, as far as that is known."""

    message: str | None
    """`publisher:seq`, as its message's stamp says."""
    request: str | None


UNKNOWN: Final = Origin(None, None)


def spell(request: str, events: int) -> str:
    """Name a request that brought so many events."""
    return request if events == 1 else f"{request}:{events}"


def join(requests: Sequence[str]) -> str:
    """Return the header of a message whose events came by these, each as `spell` names it."""
    text = ",".join(requests)
    return text if len(text) <= MOST_CHARACTERS else text[: text.rindex(",", 0, MOST_CHARACTERS + 1)]


def ids(header: object) -> list[str]:
    """The ids that a header names; none when it is not one: anybody may write headers."""
    return [name for name, _ in _read(header)]


def request_at(header: object, position: int) -> str | None:
    """The id of the request that brought the event at `position` of its message; None when that is not known."""
    if not _is_short(header):
        return None
    names, ends = _owners(header)
    place = bisect_right(ends, position)
    return names[place] if place < len(names) else None


# It is asked for each event of a message, of which thousands may be rejected.
@lru_cache(maxsize=8)
def _owners(header: str) -> tuple[list[str], list[int]]:
    """The ids that a header names, and how many events came up to each."""
    read = list(_read(header))
    return [name for name, _ in read], list(accumulate(events for _, events in read))


def _is_short(header: object) -> TypeGuard[str]:
    return isinstance(header, str) and len(header) <= MOST_CHARACTERS


def _read(header: object) -> Iterator[tuple[str, int]]:
    if not _is_short(header) or not RULE.fullmatch(header):
        return
    for part in header.split(","):
        name, _, events = part.partition(":")
        yield name, int(events or 1)
