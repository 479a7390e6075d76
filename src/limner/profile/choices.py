"""What a user chose of their own portrait: slots turned off or marked wrong, "not personalised".

Choices are declared attributes with reserved names, so each is a register in the log: the last word
holds, a replay brings the same, and erasure takes them with the user.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from limner.errors import UsageError
from limner.profile.facet import SECTIONS, Facet, Slot
from limner.profile.facets.declared import NAMES, RESERVED, VALUES, Declared
from limner.profile.merge import NEVER
from limner.profile.state import ProfileState

PERSONALISED = f"{RESERVED}personalised"
OFF = f"{RESERVED}off:"
WRONG = f"{RESERVED}wrong:"
YES, NO = "yes", "no"


@dataclass(frozen=True, slots=True)
class Choices:
    """`off`: slots, "section.name", that are turned off; `wrong`: those marked wrong, with when
    (µs): what supports them from then on counts again. `personalised`: whether lists may be.
    """

    personalised: bool = True
    off: tuple[str, ...] = ()
    wrong: Mapping[str, int] = field(default_factory=dict)

    def hides(self, slot: Slot) -> bool:
        """Whether a slot is left out: off, or marked wrong and nothing new since."""
        path = f"{slot.section}.{slot.name}"
        of = f"{slot.section}.{slot.facet}" if slot.facet else path
        if path in self.off or of in self.off:
            return True
        marked = max(self.wrong.get(path, NEVER), self.wrong.get(of, NEVER))
        return marked != NEVER and (slot.changed_at is None or slot.changed_at <= marked)

    def since(self, path: str) -> int | None:
        """From when on (µs, exclusive) evidence of a slot counts; None for never."""
        return None if path in self.off else self.wrong.get(path, NEVER)


def choices_of(state: ProfileState, row: int) -> Choices:
    """A user's choices; nobody (−1) has made any."""
    facet = next((facet for facet in state.facets if isinstance(facet, Declared)), None)
    if facet is None or row < 0:
        return Choices()
    keys, values = state.pools[facet.name].entries(row)
    names, texts = state.vocabulary(NAMES).values, state.vocabulary(VALUES).values
    personalised, off, wrong = True, [], {}
    for place, key in enumerate(keys.tolist()):
        name = names[key]
        if not name.startswith(RESERVED):
            continue
        said = texts[values["value"][place]]
        if name == PERSONALISED:
            personalised = said != NO
        elif name.startswith(OFF) and said == YES:
            off.append(name.removeprefix(OFF))
        elif name.startswith(WRONG) and said == YES:
            wrong[name.removeprefix(WRONG)] = int(values["t"][place])
    return Choices(personalised, tuple(sorted(off)), dict(sorted(wrong.items())))


def declared(
    facets: Iterable[Facet],
    *,
    personalised: bool | None = None,
    off: Iterable[str] = (),
    on: Iterable[str] = (),
    wrong: Iterable[str] = (),
    right: Iterable[str] = (),
) -> dict[str, str]:
    """The attributes that say these choices. Raises UsageError where they cannot be kept, or for
    what is no slot's name.
    """
    if not any(isinstance(facet, Declared) for facet in facets):
        raise UsageError(
            "choices cannot be kept without a facet of kind 'declared'",
            mend='add [[facet]] with name = "declared", kind = "declared", section = "basic"',
        )
    out = {} if personalised is None else {PERSONALISED: YES if personalised else NO}
    for prefix, said, slots in ((OFF, YES, off), (OFF, NO, on), (WRONG, YES, wrong),
                                (WRONG, NO, right)):  # fmt: skip
        for slot in slots:
            section, _, name = slot.partition(".")
            if section not in SECTIONS or not name:
                raise UsageError(
                    f"{slot!r} is no slot", mend="slots are named section.name, as portraits show"
                )
            out[prefix + slot] = said
    return out
