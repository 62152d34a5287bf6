"""The verdict, held against a world in which everything that can happen to a message happens."""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, TypeVar
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from contract.stamp import Stamp, Stamper
from worker.audit.books import Balance, Books
from worker.audit.findings import Finding, Kind
from worker.ledger import Entry, EntryId, pack, stamp_fields, unpack

T = TypeVar("T")

NAMESPACE = UUID(int=2**100)


@dataclass(frozen=True)
class Message:
    """What lies in the queue: a publisher's, a replayed dead letter, or a direct producer's."""

    entry: EntryId
    ids: tuple[int, ...]
    bad: int = 0
    stamp: Stamp | None = None

    @property
    def events(self) -> int:
        return len(self.ids) + self.bad

    @property
    def keys(self) -> list[UUID]:
        return [self.entry.letter_key(position) for position in range(self.bad)]


@dataclass(frozen=True)
class Letter:
    """What lies among the dead letters: one event, or a message as it was."""

    key: UUID
    whole: Message | None = None


@dataclass
class Sent:
    """A message that its publisher has not decided about yet."""

    message: Message
    arrived: bool


@dataclass
class World:
    """Everything outside of the publishers."""

    queue: list[Message] = field(default_factory=list)
    rows: dict[EntryId, dict[str, Any]] = field(default_factory=dict)
    purges: dict[UUID, dict[str, Any]] = field(default_factory=dict)
    letters: list[Letter] = field(default_factory=list)

    def settle(self, message: Message) -> None:
        """What a worker does with a delivery, up to the commit; a copy is skipped."""
        if message.entry in self.rows:
            return
        self.letters += map(Letter, message.keys)
        stamp = {} if message.stamp is None else stamp_fields(message.stamp)
        self.rows[message.entry] = {
            "_id": message.entry.to_document(),
            "events": message.events,
            "stored": len(message.ids),
            "duplicates": 0,
            "rejected": message.bad,
            "ids": pack(UUID(int=one) for one in message.ids),
            "parked": pack(message.keys),
            **stamp,
        }

    def drain(self) -> None:
        while self.queue:
            self.settle(self.queue.pop(0))

    def balance(self) -> Balance:
        books = Books()
        for row in (*self.rows.values(), *self.purges.values()):
            books.enter(row)
        for letter in self.letters:
            stamp = letter.whole.stamp if letter.whole else None
            books.note_letter(letter.key, stamp, is_whole=letter.whole is not None)
        return books.balance()

    def knows(self, entry: EntryId) -> bool:
        """Whether a message is anywhere to be found."""
        purged = {(row.get("publisher"), row.get("seq")) for row in self.purges.values()}
        return (
            entry in self.rows
            or (entry.uuid, entry.seq) in purged
            or any(message.entry == entry for message in self.queue)
            or any(letter.whole is not None and letter.whole.entry == entry for letter in self.letters)
        )


picks = st.integers(0, 10**6)


def pick(items: Sequence[T], index: int) -> T:
    return items[index % len(items)]


class Life(RuleBasedStateMachine):
    """Publishers, a broker, workers, an operator with the tool, and one who makes mistakes."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.numbers = count(1)
        self.publishers: list[UUID] = []
        self.confirmed: dict[EntryId, int] = {}
        """By the word of a publisher: message -> events."""
        self.harmed: set[UUID] = set()
        """Publishers of which a message was lost."""
        self.thrown_away: set[UUID] = set()
        self.start_publisher()

    def start_publisher(self) -> None:
        self.publishers.append(UUID(int=next(self.numbers)))
        self.stamper = Stamper(self.publishers[-1])
        self.sent: list[Sent] = []

    def ids(self, number: int) -> tuple[int, ...]:
        return tuple(next(self.numbers) for _ in range(number))

    # Publishers.

    @rule(good=st.integers(0, 3), bad=st.integers(0, 1), arrives=st.booleans())
    def send(self, good: int, bad: int, arrives: bool) -> None:  # noqa: FBT001
        """With neither it is a mark."""
        stamp = self.stamper.stamp(good + bad)
        message = Message(EntryId.of_stamp(stamp), self.ids(good), bad, stamp)
        self.sent.append(Sent(message, arrives))
        if arrives:
            self.world.queue.append(message)

    @precondition(lambda self: self.sent)
    @rule(index=picks, arrives=st.booleans())
    def republish(self, index: int, arrives: bool) -> None:  # noqa: FBT001
        one = pick(self.sent, index)
        if arrives:
            one.arrived = True
            self.world.queue.append(one.message)

    @precondition(lambda self: any(one.arrived for one in self.sent))
    @rule(index=picks)
    def confirm(self, index: int) -> None:
        one = pick([one for one in self.sent if one.arrived], index)
        self.sent.remove(one)
        assert one.message.stamp is not None
        self.stamper.confirm(one.message.stamp)
        self.confirmed[one.message.entry] = one.message.events

    @precondition(lambda self: self.sent)
    @rule(index=picks)
    def give_up(self, index: int) -> None:
        """Refused, returned, or wanted by nobody any more; it may have arrived all the same."""
        one = pick(self.sent, index)
        self.sent.remove(one)
        assert one.message.stamp is not None
        self.stamper.give_up(one.message.stamp)

    @rule()
    def kill_publisher(self) -> None:
        self.start_publisher()

    @rule(good=st.integers(1, 2), bad=st.integers(0, 1))
    def send_without_stamp(self, good: int, bad: int) -> None:
        self.world.queue.append(Message(EntryId("batch", UUID(int=next(self.numbers))), self.ids(good), bad))

    # Workers.

    @precondition(lambda self: self.world.queue)
    @rule(index=picks)
    def store(self, index: int) -> None:
        message = pick(self.world.queue, index)
        self.world.settle(message)
        self.world.queue.remove(message)

    @precondition(lambda self: any(one.stamp for one in self.world.queue))
    @rule(index=picks)
    def die_between_commit_and_ack(self, index: int) -> None:
        self.world.settle(pick([one for one in self.world.queue if one.stamp], index))

    @precondition(lambda self: self.world.queue)
    @rule(index=picks)
    def die_between_parking_and_commit(self, index: int) -> None:
        message = pick(self.world.queue, index)
        if message.entry in self.world.rows:
            return
        self.world.letters += map(Letter, message.keys)
        if message.stamp is None and message.entry.kind == "batch":
            # Delivered again, it has another name.
            position = self.world.queue.index(message)
            again = EntryId("batch", UUID(int=next(self.numbers)))
            self.world.queue[position] = replace(message, entry=again)

    @precondition(lambda self: any(one.stamp for one in self.world.queue))
    @rule(index=picks)
    def dead_letter_whole(self, index: int) -> None:
        """The broker does, after so many deliveries."""
        message = pick([one for one in self.world.queue if one.stamp], index)
        self.world.queue.remove(message)
        assert message.stamp is not None
        key = Entry(EntryId("batch", NAMESPACE)).id.letter_key(message.stamp.seq + message.stamp.publisher.int)
        self.world.letters.append(Letter(key, message))

    # The operator.

    @precondition(lambda self: self.world.letters)
    @rule(index=picks, is_killed=st.booleans())
    def replay(self, index: int, is_killed: bool) -> None:  # noqa: FBT001
        """A tool that is killed leaves the letter where it was."""
        letter = pick(self.world.letters, index)
        again = letter.whole or Message(EntryId.of_replay(letter.key), self.ids(1))
        known = [one for one in self.world.queue if one.entry == again.entry]
        self.world.queue.append(known[0] if known else again)
        if not is_killed:
            self.world.letters.remove(letter)

    @precondition(lambda self: self.world.letters)
    @rule(index=picks, is_killed=st.booleans())
    def purge(self, index: int, is_killed: bool) -> None:  # noqa: FBT001
        letter = pick(self.world.letters, index)
        row: dict[str, Any] = {"_id": {"purged": letter.key}}
        if letter.whole is not None and letter.whole.stamp is not None:
            stamp = letter.whole.stamp
            row |= {"publisher": stamp.publisher, "seq": stamp.seq, "events": stamp.events, **stamp_fields(stamp)}
        self.world.purges.setdefault(letter.key, row)
        if not is_killed:
            self.world.letters.remove(letter)

    @precondition(lambda self: any(one.stamp for one in self.world.queue))
    @rule(index=picks)
    def lose_message(self, index: int) -> None:
        message = pick([one for one in self.world.queue if one.stamp], index)
        self.world.queue.remove(message)
        if not self.world.knows(message.entry):
            self.harmed.add(message.entry.uuid)

    @precondition(lambda self: any(not one.whole for one in self.world.letters))
    @rule(index=picks)
    def throw_letter_away(self, index: int) -> None:
        letter = pick([one for one in self.world.letters if not one.whole], index)
        self.world.letters.remove(letter)
        self.thrown_away.add(letter.key)

    # The auditor.

    @rule()
    def audit(self) -> None:
        later = deepcopy(self.world)
        now = self.world.balance()
        assert all(one.is_under_way for one in now.findings)
        assert now.came.total == now.became.total
        later.drain()
        self.check(later, later.balance())

    def teardown(self) -> None:
        self.audit()

    def check(self, world: World, balance: Balance) -> None:
        """Nothing is under way any more: what is found is wrong, and what is wrong is found."""
        holes, short = _of(balance, Kind.HOLE), _of(balance, Kind.SHORT)
        assert {UUID(dict(one.facts)["publisher"]) for one in (*holes, *short)} <= self.harmed
        named = set(_seqs(holes))
        for publisher, account in balance.publishers.items():
            lost = {seq for seq in range(1, account.floor + 1) if self.is_lost(world, UUID(publisher), seq)}
            assert lost == {seq for name, seq in named if name == publisher and self.is_confirmed(publisher, seq)}
        missing = {UUID(dict(one.facts)["key"]) for one in _of(balance, Kind.LETTER)}
        assert missing == self.missing_letters(world)
        letters = balance.letters
        assert letters.missing == len(missing)
        assert letters.depth == len(world.letters)
        assert letters.copies >= 0
        outstanding = letters.rejected - letters.replayed - letters.purged - letters.missing
        assert outstanding + letters.whole + letters.copies == letters.depth
        if not self.harmed:
            assert balance.became.open == 0
            assert balance.came.confirmed == self.covered(balance)

    def is_confirmed(self, publisher: str, seq: int) -> bool:
        return EntryId("publisher", UUID(publisher), seq) in self.confirmed

    def is_lost(self, world: World, publisher: UUID, seq: int) -> bool:
        entry = EntryId("publisher", publisher, seq)
        return entry in self.confirmed and not world.knows(entry)

    def covered(self, balance: Balance) -> int:
        """Events that were confirmed, of messages up to the floors."""
        floors = {UUID(name): account.floor for name, account in balance.publishers.items()}
        return sum(events for entry, events in self.confirmed.items() if (entry.seq or 0) <= floors.get(entry.uuid, 0))

    def missing_letters(self, world: World) -> set[UUID]:
        there = {letter.key for letter in world.letters}
        known = {key for row in world.rows.values() for key in unpack(row["parked"])}
        return {
            key
            for key in self.thrown_away & known
            if key not in there and key not in world.purges and EntryId.of_replay(key) not in world.rows
        }


def _of(balance: Balance, kind: Kind) -> list[Finding]:
    return [one for one in balance.findings if one.kind is kind]


def _seqs(holes: Iterable[Finding]) -> Iterable[tuple[str, int]]:
    for hole in holes:
        facts = dict(hole.facts)
        first, _, last = facts["seq"].partition("-")
        for seq in range(int(first), int(last or first) + 1):
            yield facts["publisher"], seq


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=500, stateful_step_count=80, deadline=None)
