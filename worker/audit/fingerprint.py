"""Comparing very many ids in little memory."""

from collections.abc import Iterator
from typing import Final

ID_BYTES: Final = 16
BUCKETS: Final = 4096
_MASK: Final = BUCKETS - 1

AT_ONCE: Final = 2_000_000
"""How many ids are held to find out which of them differ."""


class Fingerprint:
    """How many ids there are, and what they sum up to, in buckets: the same for two collections of the same ids.

    An id's bucket is given by its last bits; the first ones are the same for all ids of one hour.
    """

    def __init__(self) -> None:
        self._counts = [0] * BUCKETS
        self._sums = [0] * BUCKETS

    @property
    def count(self) -> int:
        """How many ids were added."""
        return sum(self._counts)

    def add(self, packed: bytes) -> None:
        """Add ids that stand behind each other."""
        counts, sums, number = self._counts, self._sums, int.from_bytes
        for start in range(0, len(packed), ID_BYTES):
            value = number(packed[start : start + ID_BYTES], "big")
            bucket = value & _MASK
            counts[bucket] += 1
            sums[bucket] += value

    def differences(self, other: "Fingerprint") -> Iterator[frozenset[int]]:
        """Yield the buckets that differ: so many at a time that their ids can be held."""
        part: set[int] = set()
        held = 0
        pairs = zip(self.buckets(), other.buckets(), strict=True)
        for bucket, ((count, total), (others_count, others_total)) in enumerate(pairs):
            if (count, total) == (others_count, others_total):
                continue
            size = count + others_count
            if part and held + size > AT_ONCE:
                yield frozenset(part)
                part, held = set(), 0
            part.add(bucket)
            held += size
        if part:
            yield frozenset(part)

    def buckets(self) -> Iterator[tuple[int, int]]:
        """Count and sum of each."""
        return zip(self._counts, self._sums, strict=True)


def within(packed: bytes, buckets: frozenset[int]) -> Iterator[bytes]:
    """Yield those of the packed ids that are in one of the buckets."""
    for start in range(0, len(packed), ID_BYTES):
        one = packed[start : start + ID_BYTES]
        if int.from_bytes(one[-2:], "big") & _MASK in buckets:
            yield one
