"""What a slot gives a sentence: names, numbers and directions, for templates and checker alike."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from limner.events.batch import DAY
from limner.explain.lexicon import CHINESE, DIRECTIONS, Sign, directions_in
from limner.profile.facet import Entry, Slot
from limner.profile.portrait import Portrait

Kind = Literal["share", "ratio", "span", "clock", "number"]

WORDS = "words"
"""The unit of a slot whose names users wrote: they are said in quotation marks, or not at all, for
bare words of theirs could be put together to say anything."""

SHOWN = 6
"""Things that a slot names in a sentence, at most."""

_SPANS = {"second": 1 / 86_400, "minute": 1 / 1_440, "hour": 1 / 24, "day": 1.0, "week": 7.0,
          "month": 30.44, "year": 365.25, "秒": 1 / 86_400, "分钟": 1 / 1_440, "小时": 1 / 24,
          "天": 1.0, "周": 7.0, "个月": 30.44, "年": 365.25}  # fmt: skip
_NUMBER = re.compile(
    r"(?P<clock>\d{1,2}:\d{2})|(?P<digits>\d[\d,]*(?:\.\d+)?)\s*"
    r"(?P<unit>%|×|倍|(?:second|minute|hour|day|week|month|year)s?\b|秒|分钟|小时|天|周|个月|年)?"
)
_IDENTIFYING = re.compile(r"@|://|www\.|[0-9a-f]{16}|(?:\d[\s().+-]*){7}", re.IGNORECASE)
_MASKED = re.compile(
    r"\S*(?:@|://|www\.|[0-9a-f]{16})\S*|\+?\(?\d(?:[\s().+-]*\d){6,}", re.IGNORECASE
)
_QUOTES = str.maketrans(dict.fromkeys("“”„«»「」『』", '"'))
_WITHHELD = ("name", "email", "mail", "phone", "mobile", "address", "birth", "passport", "ssn")


@dataclass(frozen=True, slots=True)
class Number:
    """A number with what it measures; shares of 1, spans in days, clocks in minutes.

    `off`: how far a printed one may be from what it was printed from; 0 for a fact.
    """

    kind: Kind
    value: float
    off: float = 0.0

    def prints(self, fact: Number) -> bool:
        """Whether this printed number is that fact, rounded as it is printed."""
        return self.kind == fact.kind and abs(self.value - fact.value) <= self.off * (1 + 1e-6)


@dataclass(frozen=True, slots=True)
class Facts:
    """Numbers and directions that hold of a slot, or of one thing that it names."""

    numbers: tuple[Number, ...] = ()
    signs: frozenset[Sign] = frozenset()


@dataclass(frozen=True, slots=True)
class SlotFacts:
    """All that a sentence may take from a slot. `named` goes by what `normal` makes of names."""

    path: str
    label: str
    own: Facts
    named: Mapping[str, Facts] = field(default_factory=dict)
    percentile: float | None = None
    words: frozenset[str] = frozenset()


def normal(text: str) -> str:
    """A text as it is compared: one width, one case, single spaces.

    >>> normal("Ｔea（３０ ％），  more")
    'tea(30 %), more'
    """
    plain = unicodedata.normalize("NFKC", text).translate(_QUOTES).casefold()
    return " ".join(plain.split())


def numbers_in(text: str) -> list[tuple[int, Number]]:
    """(where, number) of a `normal` text.

    >>> [(n.kind, n.value) for _, n in numbers_in("1,200 in 3 weeks, 30 %, 2.1 ×, at 17:00")]
    [('number', 1200.0), ('span', 21.0), ('share', 0.3), ('ratio', 2.1), ('clock', 1020.0)]
    """
    out = []
    for match in _NUMBER.finditer(text):
        if match["clock"]:
            hour, minute = match["clock"].split(":")
            out.append((match.start(), Number("clock", int(hour) * 60.0 + int(minute))))
            continue
        digits, unit = match["digits"].replace(",", ""), (match["unit"] or "")
        value, off = float(digits), 0.5 * 10.0 ** -len(digits.partition(".")[2])
        kind: Kind = "number"
        scale = 1.0
        if unit == "%":
            kind, scale = "share", 0.01
        elif unit in ("×", "倍"):
            kind = "ratio"
        elif unit:
            kind, scale = "span", _SPANS[unit.removesuffix("s")]
        out.append((match.start(), Number(kind, value * scale, off * scale)))
    return out


def without_numbers(text: str) -> str:
    """The text with a space where each number and its unit was."""
    return _NUMBER.sub(" ", text)


def identifying(text: str) -> bool:
    """Whether a text looks like an address, a telephone number, a link or an id.

    >>> identifying("ann@example.org"), identifying("+49 (30) 1234567"), identifying("35-54")
    (True, True, False)
    """
    return _IDENTIFYING.search(text) is not None


def masked(text: str, ids: Collection[str] = ()) -> str:
    """A text of a user's without addresses, telephone numbers, links and ids, nor these `ids`.

    >>> masked("Mail ann@example.org or ring +49 (30) 1234567; Ann7 loves tea", ["ann7"])
    'Mail … or ring …; … loves tea'
    """
    for one in sorted(filter(None, ids), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(one)}(?!\w)", "…", text, flags=re.IGNORECASE)
    return _MASKED.sub("…", text)


def readable(
    seen: Portrait,
    titles: Mapping[str, Callable[[str], str]],
    people: Collection[str],
    wordy: Collection[str] = (),
) -> dict[str, Slot]:
    """The slots that may be told in words, by path: without identifiers.

    Facets of other users (`people`) are left out, and so are declared attributes that identify;
    the keys of facets in `titles` become what that calls them. Vectors are left out. Facets that
    are `wordy` have keys that users wrote: their unit becomes `WORDS`.
    """
    out: dict[str, Slot] = {}
    for section, slots in seen.sections().items():
        for name, slot in slots.items():
            if slot.facet in people or not slot.text.strip():
                continue
            told = slot
            if slot.facet in titles and isinstance(slot.value, Mapping):
                title = titles[slot.facet]
                value = {title(key): n for key, n in slot.value.items() if title(key) != key}
                if not value:
                    continue
                told = replace(slot, value=value, text="")
            elif isinstance(slot.value, list) and not _ranked(slot.value):
                continue  # vectors, and ids of items
            elif identifying(slot.text) or (
                section == "basic" and any(part in name.casefold() for part in _WITHHELD)
            ):
                continue
            words = slot.facet in wordy and not isinstance(slot.value, int | float)
            out[f"{section}.{name}"] = replace(told, unit=WORDS) if words else told
    return out


def _ranked(value: Any) -> bool:
    return bool(value) and all(isinstance(entry, Entry) for entry in value)


def quoted(key: str, slot: Slot) -> str:
    """A name of a slot as a sentence says it."""
    return f'"{key}"' if slot.unit == WORDS else key


def facts_of(path: str, slot: Slot, now: int) -> SlotFacts:
    """What may be said of a slot at `now` (µs)."""
    label = slot.label or slot.name.replace("_", " ")
    named: dict[str, Facts] = {}
    numbers: list[Number] = [Number("number", float(slot.events))]
    signs: set[Sign] = set()
    value = slot.value
    if isinstance(value, list):
        for entry in value:
            _name(named, quoted(entry.key, slot), _entry(entry))
    elif isinstance(value, Mapping):
        whole = sum(n for n in value.values() if isinstance(n, int | float)) or 1.0
        for key, n in value.items():
            of_key = {("opinion", 1 if n > 0 else -1)} if slot.unit == "opinion" and n else set()
            given = (Number("number", float(n)), Number("share", n / whole))
            _name(named, quoted(str(key), slot), Facts(() if of_key else given, frozenset(of_key)))
    elif isinstance(value, str):
        if not value.replace(".", "").isdigit():
            _name(named, quoted(value, slot), Facts())
    elif isinstance(value, int | float):
        numbers.append(Number("number", float(value)))
        if slot.unit == "days":
            numbers.append(Number("span", float(value)))
        if slot.unit == "ratio":
            numbers.append(Number("share", abs(float(value) - 1)))
        if slot.unit == "share":
            numbers.append(Number("share", float(value)))
    if slot.model is not None:
        numbers.append(Number("share", slot.confidence))
    text = normal(slot.text)
    if not isinstance(value, list):  # what is said of one key holds of that key alone
        numbers += [replace(n, off=0.0) for _, n in numbers_in(text)]
    if slot.unit == "ratio" and abs(float(value) - 1) >= 0.005:
        signs.add(("level", 1 if value > 1 else -1))
    elif slot.percentile is not None and abs(slot.percentile - 0.5) > 0.05:
        signs.add(("level", 1 if slot.percentile > 0.5 else -1))
    if slot.unit in ("mood", None) or slot.name == "rfm":
        signs |= set(directions_in(text))
    if slot.unit == "mood":
        signs = {sign for sign in signs if sign[0] == "opinion"}
    if slot.changed_at is not None:
        age = (now - slot.changed_at) / DAY
        numbers.append(Number("span", age))
        if not any(aspect == "recency" for aspect, _ in signs):
            signs |= {("recency", 1)} if age <= 30 else {("recency", -1)} if age > 180 else set()
    said = "" if slot.unit == WORDS else text
    words = frozenset(re.findall(r"[^\W\d_]+", f"{normal(label)} {said} {normal(slot.unit or '')}"))
    directed = frozenset(word for word in words if word in DIRECTIONS)
    return SlotFacts(
        path, label, Facts(tuple(numbers), frozenset(signs)), named, slot.percentile,
        words - directed,
    )  # fmt: skip


def _entry(entry: Entry) -> Facts:
    numbers = [Number("share", entry.share), Number("share", entry.recent_share)]
    signs: set[Sign] = {("opinion", 1)} if entry.share > 0 else set()
    if entry.against_all is not None:
        numbers.append(Number("ratio", entry.against_all))
        if abs(entry.against_all - 1) > 0.05:
            signs.add(("level", 1 if entry.against_all > 1 else -1))
    if entry.recent_share > 1.1 * entry.share:
        signs.add(("trend", 1))
    elif entry.recent_share < 0.9 * entry.share:
        signs.add(("trend", -1))
    return Facts(tuple(numbers), frozenset(signs))


def _name(named: dict[str, Facts], key: str, facts: Facts) -> None:
    for form in (key, CHINESE.get(key, ""), key.replace("_", " ")):
        if normal(form):
            named[normal(form)] = facts
