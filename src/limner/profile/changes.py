"""Changes that others can subscribe to: a portrait that changed, an interest that shifted.

They lie in a durable, bounded outbox under increasing ids, so whoever was away goes on after the
last id seen. Nothing of a user waits anywhere else: a subscription is a place in the outbox.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, get_args

import msgspec

from limner.errors import ConfigError, UsageError
from limner.events.log import Position
from limner.profile.facet import Entry, Slot, View
from limner.profile.shown import plain

Kind = Literal["portrait_changed", "interest_shift", "audience_entered", "audience_left"]
KINDS: tuple[Kind, ...] = get_args(Kind)

CALM = 0.8
"""A shift is over, and may be told of again, once the drift is below this part of the threshold."""

LEAST_EVENTS = 5
"""Events behind a facet before its drift means anything."""


@dataclass(frozen=True, slots=True)
class ChangesConfig:
    """Which changes are told, and how many are kept.

    `shift`: the drift (0 to 1: half the sum of the differences between recent and lasting
    shares) from which on an interest has shifted; `turn`: the same for the drift of interest
    vectors (1 − cosine; 0.2 is an angle of 37°). 0 tells of none. `keep`: so many of the newest
    changes.
    """

    shift: float = 0.35
    turn: float = 0.2
    keep: int = 100_000

    def check(self, where: str) -> None:
        """Raise ConfigError if a number means nothing."""
        for name, drift in (("shift", self.shift), ("turn", self.turn)):
            if not 0 <= drift <= 1:
                raise ConfigError(
                    f"changes.{name} = {drift} is no share", where=where, mend="use 0 to 1"
                )
        if self.keep < 1:
            raise ConfigError(
                f"changes.keep = {self.keep} keeps nothing", where=where, mend="use 1 or more"
            )


@dataclass(frozen=True, slots=True)
class Said:
    """A slot's value, and its text in plain words."""

    value: Any
    text: str

    @classmethod
    def of(cls, slot: Slot | None) -> Said | None:
        """What a slot says."""
        return None if slot is None else cls(slot.value, slot.text)


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one user.

    `user` is the pseudonym in hexadecimal; `user_id` the product's own id, found at delivery and
    None once the user is erased. `slot` is "section.name", of an audience "audiences.NAME";
    what an audience's users have there is its condition. `before` is None for what was not
    there, `after` for what is gone. It was seen with the log before `position`, at `time` (µs).
    """

    id: int
    kind: Kind
    user: str
    slot: str
    before: Said | None
    after: Said | None
    position: Position
    time: int
    drift: float | None = None
    user_id: str | None = None

    def pack(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self, enc_hook=plain)

    @classmethod
    def unpack(cls, number: int, body: bytes) -> Change:
        """What `pack` wrote, under the id it was given."""
        return replace(msgspec.json.decode(body, type=cls), id=number)


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes after an id, oldest first; `missed` if the bound has let go of some before them."""

    changes: list[Change] = field(default_factory=list)
    last: int = 0
    """The id to go on after."""
    newest: int = 0
    """The highest id there is; `last` once all have been read."""
    missed: bool = False


class Outbox(Protocol):
    """Keeps the newest changes; an `Erasable` too."""

    @property
    def name(self) -> str:
        """What a receipt calls it."""
        ...

    def add(self, changes: Sequence[Change], *, keep: int) -> None:
        """Append changes under the next ids (their own `id` is not looked at); keep the newest."""
        ...

    def after(self, last: int, *, limit: int = 100) -> list[Change]:
        """The first changes with an id above `last`, ascending."""
        ...

    def last(self) -> int:
        """The highest id ever given, 0 without any; it never falls."""
        ...

    def dropped(self) -> int:
        """The highest id that the bound has let go of, 0 without any."""
        ...

    def erase(self, user: bytes) -> int:
        """Remove a user's changes; return how many there were."""
        ...

    def holds(self, user: bytes) -> bool:
        """Whether a change of this pseudonym is kept."""
        ...


class Drifting(Protocol):
    """A facet that can say how far recent interest is from the lasting one."""

    @property
    def name(self) -> str:
        """Unique among the facets."""
        ...

    @property
    def shifts_at(self) -> Literal["shift", "turn"]:
        """Which setting of `ChangesConfig` says from which drift on it has shifted."""
        ...

    @property
    def rests_on(self) -> str:
        """The facet whose events stand behind the drift: itself, or the one it reads."""
        ...

    def drift(self, view: View, now: int) -> float:
        """0 for alike, 1 for nothing in common; 0 where nothing is known."""
        ...


def differences(before: Sequence[Slot], after: Sequence[Slot]) -> list[tuple[Slot | None, ...]]:
    """(before, after) of each slot whose text differs: a change is one that people would see."""
    old, new = ({f"{s.section}.{s.name}": s for s in slots} for slots in (before, after))
    return [
        (old.get(name), new.get(name))
        for name in {**old, **new}
        if name not in old or name not in new or old[name].text != new[name].text
    ]


def shifted(slots: Sequence[Slot]) -> tuple[str, Said | None, Said | None]:
    """("section.name", before, after) of an interest shift, from the slots of a drifting facet.

    Before are the three things with the largest lasting shares, after those with the largest
    recent ones; a facet that names no things has its first slot as before and its second as after.
    """
    main = slots[0]
    where = f"{main.section}.{main.name}"
    entries = main.value
    if not (isinstance(entries, list) and entries and isinstance(entries[0], Entry)):
        return where, Said.of(main), Said.of(slots[1])

    def top(share: Callable[[Entry], float]) -> Said:
        most = [e for e in sorted(entries, key=share, reverse=True)[:3] if share(e) > 0]
        said = ", ".join(f"{e.key.lower()} ({share(e) * 100:.0f} %)" for e in most)
        return Said({e.key: share(e) for e in most}, said)

    return where, top(lambda e: e.share), top(lambda e: e.recent_share)


class News:
    """Tells those who wait that there is something new."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = threading.Condition()
        self._listeners: list[Callable[[], object]] = []

    def listen(self, callback: Callable[[], object]) -> None:
        """Call back whenever there is something new, from whatever thread; it must not wait."""
        self._listeners.append(callback)

    def tell(self) -> None:
        """There is something new."""
        with self._changed:
            self.count += 1
            self._changed.notify_all()
        for callback in self._listeners:
            callback()

    def wait(self, seen: int, seconds: float) -> None:
        """Wait until `count` is no longer `seen`, for so many seconds at most."""
        with self._changed:
            self._changed.wait_for(lambda: self.count != seen, seconds)


class Subscription:
    """The changes from a place on, in order: iterate over it, and `close` it in the end.

    Delivery is at least once: `last` is the id of the change delivered last, and whoever
    remembers it can go on after it the next time.
    """

    def __init__(
        self, read: Callable[[int], Changes], news: News, after: int, kinds: Collection[str]
    ) -> None:
        unknown = set(kinds).difference(KINDS)
        if unknown:
            raise UsageError(
                f"there are no changes of kind {sorted(unknown)[0]!r}",
                mend=f"use {' or '.join(KINDS)}",
            )
        self.last = after
        self._read = read
        self._news = news
        self._kinds = frozenset(kinds)
        self._closed = False

    def __iter__(self) -> Iterator[Change]:
        """Every change as it comes; waits for the next one, and ends when closed."""
        while not self._closed:
            yield from self.poll(wait=1.0)

    def poll(self, wait: float = 0.0) -> Iterator[Change]:
        """The changes that are there now; waits up to `wait` seconds if there are none."""
        seen = self._news.count
        found = self._read(self.last)
        if not found.changes and wait and not self._closed:
            self._news.wait(seen, wait)
            found = self._read(self.last)
        for change in found.changes:
            if self._closed:
                return
            self.last = change.id
            if change.kind in self._kinds:
                yield change

    def call(self, callback: Callable[[Change], object]) -> None:
        """Have a thread of its own call back with every change."""

        def run() -> None:
            for change in self:
                try:
                    callback(change)
                except Exception:
                    logging.getLogger(__name__).exception("a subscriber failed")

        threading.Thread(target=run, name="limner-subscriber", daemon=True).start()

    def close(self) -> None:
        """End the iteration, in whatever thread it runs."""
        self._closed = True
        self._news.tell()
