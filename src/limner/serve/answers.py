"""What the API answers with, where that is not a value of the app itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from limner.app import Audience, Run
from limner.app.delivering import Delivery
from limner.events.batch import Event
from limner.events.raw import Refused, RefusedEvent
from limner.profile.population import Mark
from limner.profile.portrait import SlotThen
from limner.profile.topics import TopicModel
from limner.profile.webhooks import Letter
from limner.serve.background import Training


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of the events. All that is `added` is on disk and in the portraits."""

    added: int
    repeated: int
    refused: list[RefusedEvent]
    as_of: int


@dataclass(frozen=True, slots=True)
class Quarantined:
    """How many rows each rule holds, and the newest of them."""

    counts: dict[str, int]
    rows: list[Refused]


@dataclass(frozen=True, slots=True)
class Webhooks:
    """How far each webhook is."""

    webhooks: list[Delivery]


@dataclass(frozen=True, slots=True)
class DeadOnes:
    """What a webhook could not deliver, oldest first."""

    letters: list[Letter]


@dataclass(frozen=True, slots=True)
class Redelivered:
    """How many dead letters are sent anew."""

    redelivered: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """How many refused rows were given up."""

    dropped: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """The newest events behind a slot, newest first."""

    user_id: str
    slot: str
    events: list[Event]


@dataclass(frozen=True, slots=True)
class Group:
    """The users who meet a condition: how many `of` all, some of them, and how to ask for more.

    `cursor` gives the next page, none at the end. `notes` say what in the condition nobody has;
    `index` what they lean to, 100 × the share there ÷ the share of all, if that was asked.
    """

    count: int
    of: int
    at: int
    as_of: int
    users: list[str]
    cursor: str | None = None
    notes: list[str] = field(default_factory=list)
    index: list[Mark] = field(default_factory=list)

    @classmethod
    def of_audience(cls, found: Audience, limit: int, cursor: str = "") -> Group:
        """A page of an audience."""
        users, following = found.page(limit, cursor)
        by = found.found
        return cls(found.count, by.of, by.at, by.as_of, users, following, [*by.notes], [*by.index])


@dataclass(frozen=True, slots=True)
class SlotHistory:
    """What a slot was after each change, newest first."""

    user_id: str
    slot: str
    changes: list[SlotThen]


@dataclass(frozen=True, slots=True)
class LearnedTopics:
    """The topics that a facet shows: each by its heaviest words. `at` is when, µs."""

    facet: str
    version: str
    at: int
    words: int
    topics: list[str]


@dataclass(frozen=True, slots=True)
class TopicsInUse:
    """The topics last learned, facet by facet."""

    facets: list[LearnedTopics]

    @classmethod
    def of(cls, models: Mapping[str, TopicModel]) -> TopicsInUse:
        """What is known of these topics."""
        return cls(
            [
                LearnedTopics(name, model.version, model.at, len(model.words), list(model.names))
                for name, model in models.items()
            ]
        )


@dataclass(frozen=True, slots=True)
class Ready:
    """What the server has: `position` is the log's next, `model` the version that scores."""

    status: str
    users: int
    items: int
    position: int
    model: str | None
    training: Training


@dataclass(frozen=True, slots=True)
class Scheduled:
    """The jobs that are done at times: what became of each the last time, and the next time."""

    jobs: list[Run]


@dataclass(frozen=True, slots=True)
class Live:
    """That the server answers."""

    status: str
    version: str


@dataclass(frozen=True, slots=True)
class ProblemDocument:
    """An error (RFC 9457). `mend` says what to do about it; `refused` names refused events."""

    type: str
    title: str
    status: int
    detail: str = ""
    mend: str = ""
    where: str = ""
    refused: list[RefusedEvent] = field(default_factory=list)
