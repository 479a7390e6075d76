"""Where things are kept: backends for the log and the tables beside it, opened by URL."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from limner.errors import UsageError
from limner.events.log import EventLog
from limner.events.raw import ImportLedger, Quarantine
from limner.privacy.access import ApiKeys
from limner.privacy.erasable import Erasable
from limner.privacy.identity import IdentityTable
from limner.profile.changes import Outbox
from limner.profile.shown import ShownTable
from limner.profile.webhooks import DeadLetters
from limner.stores.answered import Answers


class Store(Protocol):
    """One backend's log and the tables that change in the same transaction."""

    @property
    def log(self) -> EventLog:
        """The events."""
        ...

    @property
    def identities(self) -> IdentityTable:
        """The sealed user ids."""
        ...

    @property
    def quarantine(self) -> Quarantine:
        """The refused rows."""
        ...

    @property
    def imports(self) -> ImportLedger:
        """What was imported."""
        ...

    @property
    def shown(self) -> ShownTable:
        """What is shown of users between two refreshes."""
        ...

    @property
    def outbox(self) -> Outbox:
        """The changes that others can subscribe to."""
        ...

    @property
    def dead_letters(self) -> DeadLetters:
        """What webhooks could not deliver."""
        ...

    @property
    def answers(self) -> Answers:
        """What requests with a key of their own were answered."""
        ...

    @property
    def api_keys(self) -> ApiKeys:
        """Who may ask what of a server; they name nobody."""
        ...

    @property
    def erasables(self) -> Sequence[Erasable]:
        """Those of the above that hold data of users."""
        ...

    @property
    def home(self) -> Path | None:
        """Folder for snapshots and model artifacts; None for a store in memory."""
        ...

    @property
    def fresh(self) -> bool:
        """Whether nothing was in it when it was opened, so that keys may be made for it."""
        ...

    def writer(self) -> str:
        """A name, unique to it, of the one that now holds the write lock; "" if none does."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """All writes inside are durable together at its end, or none is."""
        ...

    def get_meta(self, name: str) -> str | None:
        """A fact about the store ("keys": whose keys it needs), None if it was never set."""
        ...

    def set_meta(self, name: str, value: str) -> None:
        """Keep a fact about the store."""
        ...

    def seal(self) -> None:
        """Tidy up what many small commits left, for quiet moments; changes no answer."""
        ...

    def close(self) -> None:
        """Release files and the write lock."""
        ...


def home_of(url: str) -> Path | None:
    """The `home` of the store at a URL, without opening it; None for one in memory."""
    path = url.removeprefix("sqlite:///")
    return None if path == url else Path(path).with_suffix(".data")


def api_keys(url: str) -> ApiKeys:
    """The keys of the store at a URL, beside whoever writes to it.

    Raises UsageError for a store that no other process can see.
    """
    from limner.stores.keys import SqliteApiKeys

    path = url.removeprefix("sqlite:///")
    if path == url:
        raise UsageError(f"the store {url!r} has no keys that last", mend="use sqlite:///shop.db")
    return SqliteApiKeys(Path(path))


def open_store(url: str, *, write: bool = True, holder: str = "limner") -> Store:
    """Open `memory:` or `sqlite:///path/to/file.db`.

    With `write`, takes the store's write lock (one writer a store) and says in it who holds it
    (`holder`, e.g. "limner serve at http://127.0.0.1:8088"). Without, the file must exist, and
    reading goes on beside a writer in another process.
    Raises StoreBusy if another process holds the lock, UsageError for an unknown scheme.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "memory":
        from limner.stores.memory import MemoryStore

        return MemoryStore()
    if scheme == "sqlite" and rest.startswith("///"):
        from limner.stores.sqlite import SqliteStore

        return SqliteStore(Path(rest[3:]), write=write, holder=holder)
    raise UsageError(
        f"store URL {url!r} has no backend",
        mend="use sqlite:///shop.db for a file beside you, or memory: to try things out",
    )
