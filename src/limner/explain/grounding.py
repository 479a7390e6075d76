"""The checker of law 7: whether what a sentence says stands in the slots that it cites.

It judges what a template wrote and what a language model wrote alike. It is sound before it is
complete: a sentence it cannot follow is not grounded. A sentence is cut into clauses; every
number must be a fact of the nearest name in its clause, or of a cited slot where the clause has
no name; every word of direction must hold for the names that it governs, or else for the slot;
every other word must be plain (`lexicon`) or a cited slot's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from limner.explain.facts import Facts, SlotFacts, normal, numbers_in, without_numbers
from limner.explain.lexicon import (
    CHINESE,
    GLUE_EN,
    GLUE_ZH,
    Sign,
    directions_in,
    without_directions,
)

CITED = 4
"""Slots that a sentence may rest on, at most: one that cites all is checked against nothing."""

LONGEST = 400
"""Characters of a sentence."""

_HARD = re.compile(r"[;.!?。]|\b(?:but|while|whereas)\b|但|而")
_SOFT = re.compile(r"[,:、]|\b(?:and|with)\b|以及|和|与")
_STANDS = re.compile(r"(more|less) than (\d+(?:\.\d+)?) ?% of (?:all )?(?:users|others)"
                     r"|(高于|低于) ?(\d+(?:\.\d+)?) ?% ?的(?:所有)?用户")  # fmt: skip
_PLAIN = frozenset(" .,;:!?()-–—'’\"“”·/、。《》+…")
_CJK = re.compile(r"[\u3400-\u9fff]+")
_NUMERALS = re.compile(
    r"\b(?:one|two|three|four|five|six|seven|eight|nine|ten|twice|half|dozen|double)\b"
    r"|[二三四五六七八九十百千万两半]"
)
_NAMES = 0xE000
"""Where the private characters begin that stand for names; `_LABELS` for labels of slots."""
_LABELS = 0xF000


@dataclass(frozen=True, slots=True)
class _Clause:
    text: str
    names: tuple[tuple[int, str], ...]
    labels: tuple[int, ...]
    signs: tuple[Sign, ...]


def ungrounded(sentence: str, cited: Sequence[str], facts: Mapping[str, SlotFacts]) -> str | None:
    """Why a sentence cannot be grounded in the slots that it cites; None if it can be.

    `facts` are those of all slots of the portrait, by path.
    """
    if not cited:
        return "it cites no slot"
    if len(set(cited)) > CITED:
        return f"it cites more than {CITED} slots"
    for path in cited:
        if path not in facts:
            return f"it cites {path!r}, which is no slot of the portrait"
    if len(sentence) > LONGEST or not sentence.strip():
        return "it is empty" if not sentence.strip() else "it is too long"
    text = normal(sentence)
    if any(_NAMES <= ord(character) <= 0xF8FF for character in text):
        return "it holds a character that is none of a language"
    if "://" in text or "www." in text:
        return "it holds a link"
    used = [facts[path] for path in dict.fromkeys(cited)]
    names = sorted({name for slot in used for name in slot.named}, key=lambda n: (-len(n), n))
    labels = {form: number for number, slot in enumerate(used) for form in _labels(slot)}
    text = _stands(text, used)
    # a slot's own label comes first: what "age" or "spend" is said of must be that slot's
    ordered = sorted(
        [(form, chr(_LABELS + number)) for form, number in labels.items()]
        + [(name, chr(_NAMES + number)) for number, name in enumerate(names)],
        key=lambda pair: -len(pair[0]),
    )
    for form, mark in ordered:
        text = re.sub(_bounded(form), mark, text)
    for segment in _HARD.split(_decimals(text)):
        clauses = [_clause(part, names) for part in _split(segment)]
        for place, clause in enumerate(clauses):
            wrong = (
                _wrong_number(clause, used)
                or _wrong_direction(clauses, place, used)
                or _wrong_pair(clause, used)
                or _foreign(clause, used)
            )
            if wrong:
                return wrong
    return None


def _labels(slot: SlotFacts) -> set[str]:
    forms = {normal(slot.label), normal(CHINESE.get(slot.label, ""))}
    return {form for form in forms if form}


def _bounded(form: str) -> str:
    """The form as a whole word; in Chinese, where words are not parted, anywhere."""
    left = r"(?<![a-z0-9])" if form[0].isascii() and form[0].isalnum() else ""
    right = r"(?![a-z0-9])" if form[-1].isascii() and form[-1].isalnum() else ""
    return left + re.escape(form) + right


def _stands(text: str, used: Sequence[SlotFacts]) -> str:
    """Without "more than 83 % of all users" where that is so of a cited slot."""

    def judged(match: re.Match[str]) -> str:
        above = match[1] == "more" or match[3] == "高于"
        digits = match[2] or match[4]
        off = 0.005 * 10.0 ** -len(digits.partition(".")[2]) + 1e-9
        for slot in used:
            if slot.percentile is not None:
                place = slot.percentile if above else 1 - slot.percentile
                if abs(place - float(digits) / 100) <= off:
                    return " "
        return match[0]

    return _STANDS.sub(judged, text)


def _decimals(text: str) -> str:
    """Points and commas inside numbers and clocks are no ends of clauses: out of the way."""
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    text = re.sub(r"(?<=\d)\.(?=\d)", "\u2024", text)
    return re.sub(r"(?<=\d):(?=\d\d)", "\u2236", text)


def _split(segment: str) -> list[str]:
    """At commas and "and", except in brackets, which belong to what stands before them."""
    parts, start, depth = [], 0, 0
    ends = {match.start(): match.end() for match in _SOFT.finditer(segment)}
    for place, character in enumerate(segment):
        depth += (character == "(") - (character == ")")
        if place in ends and depth <= 0:
            parts.append(segment[start:place])
            start = ends[place]
    return [*parts, segment[start:]]


def _clause(part: str, names: Sequence[str]) -> _Clause:
    text = part.replace("\u2024", ".").replace("\u2236", ":")
    found = [
        (place, names[ord(character) - _NAMES])
        for place, character in enumerate(text)
        if _NAMES <= ord(character) < _LABELS
    ]
    labels = [ord(c) - _LABELS for c in text if _LABELS <= ord(c) <= 0xF8FF]
    return _Clause(without_directions(text), tuple(found), tuple(labels), directions_in(text))


def _of(name: str, used: Sequence[SlotFacts], labels: Sequence[int] = ()) -> list[Facts]:
    bound = [used[number] for number in labels] or list(used)
    return [slot.named[name] for slot in bound if name in slot.named]


def _wrong_number(clause: _Clause, used: Sequence[SlotFacts]) -> str | None:
    bound = [used[number] for number in clause.labels] or list(used)
    for place, number in numbers_in(clause.text):
        facts = [slot.own for slot in bound]
        if clause.names and number.kind in ("share", "ratio"):
            before = [name for at, name in clause.names if at < place]
            facts = _of(before[-1] if before else clause.names[0][1], used, clause.labels)
        elif clause.names:
            facts = facts + [f for _, name in clause.names for f in _of(name, used, clause.labels)]
        if not any(number.prints(fact) for of in facts for fact in of.numbers):
            return f"the number {number.value:g} ({number.kind}) is in no slot that it cites"
    spelled = _NUMERALS.search(_without_glue(clause.text))
    return f"{spelled[0]!r} is a number that cannot be checked" if spelled else None


def _wrong_direction(
    clauses: Sequence[_Clause], place: int, used: Sequence[SlotFacts]
) -> str | None:
    clause = clauses[place]
    signs = clause.signs
    if not signs and clause.names:  # a list goes on, or begins
        nearest = [c.signs for c in reversed(clauses[:place]) if c.signs] or [
            c.signs for c in clauses[place + 1 :] if c.signs
        ]
        signs = nearest[0] if nearest else ()
        every = {sign for c in clauses for sign in c.signs}
        if any((aspect, -way) in every for aspect, way in every):
            return "it does not say clearly which way each thing goes"
    for aspect, way in signs:
        told = [
            (name, {sign for facts in _of(name, used) for sign in facts.signs if sign[0] == aspect})
            for _, name in clause.names
        ]
        about = [(name, held) for name, held in told if held]
        wrong = [name for name, held in about if (aspect, way) not in held or len(held) > 1]
        if wrong:
            return f"{wrong[0]!r} does not go that way ({aspect})"
        bound = [used[number] for number in clause.labels] or list(used)
        if not about and clause.signs:
            held = {sign for slot in bound for sign in slot.own.signs if sign[0] == aspect}
            if (aspect, way) not in held or (aspect, -way) in held:
                return f"no slot that it cites goes that way ({aspect})"
    return None


def _wrong_pair(clause: _Clause, used: Sequence[SlotFacts]) -> str | None:
    """A name said under the label of a slot that does not have it."""
    if clause.labels:
        for _, name in clause.names:
            if not _of(name, used, clause.labels):
                return f"{name!r} is not in the slot under whose name it stands"
    return None


def _foreign(clause: _Clause, used: Sequence[SlotFacts]) -> str | None:
    """A word or sign that is neither plain nor a cited slot's own."""
    own = {word for slot in used for word in slot.words}
    text = without_numbers(clause.text)
    text = re.sub(r"[\ue000-\uf8ff]", " ", text)
    for word in re.findall(r"[^\W\d_\u3400-\u9fff]+(?:['’]s)?", text):
        if word not in GLUE_EN and word not in own:
            return f"the word {word!r} is in no slot that it cites"
    for run in _CJK.findall(_without_glue(text)):
        return f"the word {run!r} is in no slot that it cites"
    rest = re.sub(r"[^\W\d_]", "", text)
    strange = [character for character in rest if character not in _PLAIN]
    return f"the sign {strange[0]!r} has no place in a sentence" if strange else None


_ZH = re.compile("|".join(re.escape(word) for word in sorted(GLUE_ZH, key=lambda w: -len(w))))


def _without_glue(text: str) -> str:
    return _ZH.sub(" ", text)
