"""What the API answers with, as a client sees it: the fields of the classes that the app has.

These are classes of their own because the app's need numpy and Arrow; a test holds them to the
same fields. A field that this client does not know yet is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct, field

Section = Literal["basic", "behaviour", "interests", "value"]


class RefusedEvent(Struct, frozen=True):
    """An event that was refused: its number in the request, from 1, and how to mend it."""

    line: int
    rule: str
    reason: str


class Accepted(Struct, frozen=True):
    """What became of events. All that is `added` is on disk and in the portraits.

    `as_of` is the log's position after them.
    """

    added: int
    repeated: int
    refused: list[RefusedEvent]
    as_of: int

    def plus(self, later: Accepted, sent: int) -> Accepted:
        """What became of the `sent` events of this and of later ones, counted on from these."""
        counted = [
            RefusedEvent(row.line + sent, row.rule, row.reason) for row in later.refused
        ]  # fmt: skip
        return Accepted(
            self.added + later.added,
            self.repeated + later.repeated,
            [*self.refused, *counted],
            max(self.as_of, later.as_of),
        )


class Slot(Struct, frozen=True):
    """One line of a portrait; times are µs, the half-life is in days."""

    name: str
    section: Section
    label: str
    value: Any
    text: str
    confidence: float
    events: int
    changed_at: int | None
    unit: str | None = None
    half_life: float | None = None
    percentile: float | None = None
    tier: str | None = None
    error: float | None = None
    facet: str = ""
    refreshed_at: int | None = None
    as_of: int | None = None
    model: str | None = None
    moved: dict[str, float] | None = None


class Sentence(Struct, frozen=True):
    """A sentence of a written portrait, and the slots ("section.name") that it rests on."""

    text: str
    slots: tuple[str, ...]


class Written(Struct, frozen=True):
    """A portrait in a few sentences, each checked against the slots that it cites."""

    language: str
    sentences: tuple[Sentence, ...]
    by: str
    model: str | None = None
    dropped: tuple[str, ...] = ()
    note: str = ""


class Portrait(Struct, frozen=True):
    """What is known of a user at `at` (µs), from the log before `as_of`."""

    user_id: str
    at: int
    as_of: int
    basic: dict[str, Slot] = field(default_factory=dict)
    behaviour: dict[str, Slot] = field(default_factory=dict)
    interests: dict[str, Slot] = field(default_factory=dict)
    value: dict[str, Slot] = field(default_factory=dict)
    vector: list[float] = field(default_factory=list)
    model: str | None = None
    vector_at: int | None = None
    written: Written | None = None

    def slot(self, path: str) -> Slot | None:
        """A slot by "section.name"; None if there is none."""
        section, _, name = path.partition(".")
        sections: Mapping[str, Mapping[str, Slot]] = {
            "basic": self.basic,
            "behaviour": self.behaviour,
            "interests": self.interests,
            "value": self.value,
        }
        return sections.get(section, {}).get(name)


class Step(Struct, frozen=True):
    """What one step after the score did to an item: its rank before and after."""

    name: str
    before: int
    after: int


class Reason(Struct, frozen=True):
    """Something that moved a score by `effect`, in words and in events (positions)."""

    text: str
    part: str
    effect: float
    events: tuple[int, ...] = ()
    items: tuple[str, ...] = ()


class Recommendation(Struct, frozen=True):
    """A ranked item. `parts` sum to `score`; `steps` lead from the score's rank to `rank`."""

    item_id: str
    title: str
    rank: int
    score: float
    parts: dict[str, float]
    steps: tuple[Step, ...] = ()
    reason: str = ""
    reasons: tuple[Reason, ...] = ()
    propensity: float = 1.0


class Recommendations(Struct, frozen=True):
    """A list for a user: from the log before `as_of`, at `at` (µs)."""

    user_id: str
    recommendation_id: str
    at: int
    as_of: int
    items: tuple[Recommendation, ...]
    removed: dict[str, int] = field(default_factory=dict)
    model: str | None = None
    note: str = ""
    scenario: str = ""
    refused: tuple[RefusedEvent, ...] = ()


class Together(Struct, frozen=True):
    """Another item of the same baskets or sessions."""

    item_id: str
    times: int
    lift: float


class Interaction(Struct, frozen=True):
    """A user's dealings with an item; times are µs."""

    item_id: str
    events: int
    sessions: int
    strength: float
    first: int | None
    last: int | None
    interval: float | None
    together: tuple[Together, ...]
    text: str


class Why(Struct, frozen=True):
    """Why an item is where it is for a user, or what keeps it out; all of it was tried."""

    user_id: str
    item_id: str
    title: str
    score: float
    parts: dict[str, float]
    family_ranks: dict[str, int]
    rank_by_score: int | None
    rank: int | None
    removed_by: tuple[str, ...]
    steps: tuple[Step, ...]
    reasons: tuple[Reason, ...]
    without: int | None
    counterfactual: str
    missing: float | None
    would: tuple[str, ...]
    text: str
    interaction: Interaction


class SimilarItem(Struct, frozen=True):
    """An item beside another: `parts` sum to `score`; bought together in `times` baskets."""

    item_id: str
    title: str
    score: float
    parts: dict[str, float] = field(default_factory=dict)
    times: int | None = None
    lift: float | None = None


class SimilarItems(Struct, frozen=True):
    """Items like `item_id`, the most like first, or bought together with it."""

    item_id: str
    title: str
    by: Literal["alike", "together"]
    items: tuple[SimilarItem, ...]


class Mark(Struct, frozen=True):
    """A key that a group leans to: its share there and among all, index = 100 × their ratio."""

    key: str
    share: float
    overall: float
    index: float


class Group(Struct, frozen=True):
    """A page of the users who meet a condition; `cursor` asks for the next, None at the end."""

    count: int
    of: int
    at: int
    as_of: int
    users: list[str]
    cursor: str | None = None
    notes: list[str] = field(default_factory=list)
    index: list[Mark] = field(default_factory=list)


class Forgotten(Struct, frozen=True):
    """What became of the model in use when a user was erased."""

    version: str
    forgot: list[str]
    due: list[str]
    older: list[str]


class Erased(Struct, frozen=True):
    """What was removed, by the name of what held it, and whether each is clean now."""

    removed: dict[str, int]
    clean: dict[str, bool]
    retrain: bool
    model: Forgotten | None = None


class Choices(Struct, frozen=True):
    """What a user chose: slots turned off or marked wrong (when, µs), lists personalised."""

    personalised: bool = True
    off: tuple[str, ...] = ()
    wrong: dict[str, int] = field(default_factory=dict)


class Ready(Struct, frozen=True):
    """What the server has: `position` is the log's next, `model` the version that scores."""

    status: str
    users: int
    items: int
    position: int
    model: str | None
    training: dict[str, Any]


class Live(Struct, frozen=True):
    """That the server answers."""

    status: str
    version: str
