"""The written portrait, by template: three to eight sentences of plain words (law 7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from limner.explain.facts import WORDS, SlotFacts, facts_of, normal, quoted
from limner.explain.grounding import ungrounded
from limner.explain.lexicon import Language, said_in
from limner.profile.facet import Entry, Slot
from limner.profile.portrait import Sentence, Written
from limner.profile.words import WEEKDAYS, ago, money, percent, times

MOST = 8
"""Sentences of a written portrait, at most."""

LEAST = 3
"""Sentences that a model must have grounded, or templates say the rest."""

Slots = Mapping[str, Slot]


def grounded(
    sentences: Sequence[Sentence], facts: Mapping[str, SlotFacts]
) -> tuple[list[Sentence], list[str]]:
    """(the sentences that can be grounded in what they cite, why the others cannot)."""
    kept, dropped = [], []
    for sentence in sentences:
        wrong = ungrounded(sentence.text, sentence.slots, facts)
        if wrong is None:
            kept.append(sentence)
        else:
            dropped.append(wrong)
    return kept, dropped


def all_facts(slots: Slots, now: int) -> dict[str, SlotFacts]:
    """What may be said of each slot."""
    return {path: facts_of(path, slot, now) for path, slot in slots.items()}


def by_template(slots: Slots, now: int, language: Language) -> Written:
    """A portrait in words from its slots (`facts.readable`); less than three sentences only where
    less is known.
    """
    kept, dropped = grounded(list(_sentences(slots, now, language)), all_facts(slots, now))
    return Written(language, tuple(kept[:MOST]), "template", None, tuple(dropped))


def filled(kept: Sequence[Sentence], template: Written) -> tuple[Sentence, ...]:
    """A model's sentences, with those of templates about other slots where they are too few."""
    out = list(kept[:MOST])
    for sentence in template.sentences:
        if len(out) >= LEAST:
            break
        if not {path for mine in out for path in mine.slots} & set(sentence.slots):
            out.append(sentence)
    return tuple(out)


def _sentences(slots: Slots, now: int, language: Language) -> Iterator[Sentence]:
    """The best of each section first in order, then what else there is room for."""
    english = language == "en"
    candidates = [
        _declared(slots, english),
        _segment(slots, english),
        _last(slots, now, english),
        _week(slots, english),
        *_ranked(slots, english),
        _rising(slots, english),
        _opinions(slots, english),
        _money(slots, english),
        _price(slots, english),
        *_predicted(slots, english),
    ]
    told = [sentence for sentence in candidates if sentence is not None]
    seen = {path for sentence in told for path in sentence.slots}
    if len(told) < MOST:
        told += list(_others(slots, seen, english))[: MOST - len(told)]
    yield from told[:MOST]


def _listed(parts: Sequence[str], english: bool) -> str:
    if english:
        return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
    return "、".join(parts)


def _label(slot: Slot, english: bool) -> str:
    return said_in("en" if english else "zh", slot.label or slot.name.replace("_", " "))


def _name(key: str, slot: Slot) -> str:
    """What a shop names: as it is, in any language, but not shouted."""
    return quoted(key.lower() if key.isupper() else key, slot)


def _declared(slots: Slots, english: bool) -> Sentence | None:
    mine = [(p, s) for p, s in slots.items() if p.startswith("basic.") and s.model is None
            and s.facet == "declared"][:4]  # fmt: skip
    if not mine:
        return None
    said = [f"{_label(slot, english)} {slot.text}" for _, slot in mine]
    text = (
        f"They say of themselves: {', '.join(said)}." if english else f"自述：{'，'.join(said)}。"
    )
    return Sentence(text, tuple(path for path, _ in mine))


def _segment(slots: Slots, english: bool) -> Sentence | None:
    slot = slots.get("value.rfm")
    if slot is None:
        return None
    meaning = slot.text.partition(": ")[2]
    if english:
        more = f", which means: {meaning}" if meaning else ""
        return Sentence(f"Among all users the segment is {slot.value}{more}.", ("value.rfm",))
    return Sentence(f"在全体用户中，客群是{said_in('zh', str(slot.value))}。", ("value.rfm",))


def _last(slots: Slots, now: int, english: bool) -> Sentence | None:
    for path in ("behaviour.days_since_last_purchase", "behaviour.days_since_last"):
        slot = slots.get(path)
        if slot is not None and slot.changed_at is not None:
            span = ago(now - slot.changed_at)
            if span == "just now":
                continue
            if english:
                return Sentence(f"The {_label(slot, True)} was {span}.", (path,))
            return Sentence(f"{_label(slot, False)}是{_span_zh(span)}前。", (path,))
    return None


def _span_zh(span: str) -> str:
    number, unit, _ = span.split()
    zh = {"months": "个月", "days": "天", "hours": "小时", "minutes": "分钟", "seconds": "秒"}
    return f"{number}{zh[unit]}"


def _week(slots: Slots, english: bool) -> Sentence | None:
    for path, slot in slots.items():
        value = slot.value
        if isinstance(value, Mapping) and value and set(value) <= set(WEEKDAYS):
            whole = sum(value.values())
            best = sorted(value, key=lambda day: (-value[day], WEEKDAYS.index(day)))[:2]
            language: Language = "en" if english else "zh"
            days = [f"{said_in(language, day)} ({percent(value[day] / whole)})" for day in best]
            if english:
                return Sentence(f"They are active mostly on {_listed(days, True)}.", (path,))
            return Sentence(f"活动主要集中在{_listed(days, False)}。", (path,))
    return None


def _entries(slot: Slot) -> list[Entry]:
    return slot.value if isinstance(slot.value, list) else []


def _ranked(slots: Slots, english: bool) -> Iterator[Sentence]:
    """The two rankings that say most: sure, and not all one thing."""
    found = [
        (path, slot)
        for path, slot in slots.items()
        if _entries(slot) and _entries(slot)[0].share < 0.9
    ] or [(path, slot) for path, slot in slots.items() if _entries(slot)]
    order = sorted(found, key=lambda pair: -len(_entries(pair[1])))[:2]
    for path, slot in order:
        said = []
        for entry in _entries(slot)[:3]:
            lift = entry.against_all
            usual = " the usual" if english else ""
            more = f", {times(lift)}{usual}" if lift and lift >= 1.5 else ""
            if not english and more:
                more = f"，是通常的{times(lift or 0).replace(' ×', '倍')}"
            said.append(f"{_name(entry.key, slot)} ({percent(entry.share)}{more})")
        label = _label(slot, english)
        write, choose = ("write", "choose") if english else ("写", "选择")
        verb = write if slot.unit == WORDS else choose
        if english:
            yield Sentence(f"Of the {label} they {verb} mostly {_listed(said, True)}.", (path,))
        else:
            yield Sentence(f"在{label}中主要{verb}{_listed(said, False)}。", (path,))


def _rising(slots: Slots, english: bool) -> Sentence | None:
    best: tuple[float, str, Slot, Entry] | None = None
    for path, slot in slots.items():
        for entry in _entries(slot):
            gain = entry.recent_share - entry.share
            if entry.recent_share > 1.5 * entry.share and gain > 0.02:
                best = max(
                    best or (0.0, "", slot, entry), (gain, path, slot, entry), key=lambda b: b[0]
                )
    if best is None:
        return None
    _, path, slot, entry = best
    name, was, now = _name(entry.key, slot), percent(entry.share), percent(entry.recent_share)
    text = (
        f"Lately {name} is rising from {was} to {now}."
        if english
        else f"近来{name}在上升（从 {was} 到 {now}）。"
    )
    return Sentence(text, (path,))


def _opinions(slots: Slots, english: bool) -> Sentence | None:
    for path, slot in slots.items():
        if slot.unit == "opinion" and isinstance(slot.value, Mapping):
            good = [_name(k, slot) for k, n in slot.value.items() if n > 0][:3]
            bad = [_name(k, slot) for k, n in slot.value.items() if n < 0][:3]
            like, not_ = ("like ", "dislike ") if english else ("喜欢", "不喜欢")
            said = [v + _listed(few, english) for v, few in ((like, good), (not_, bad)) if few]
            if said:
                text = f"They {'; they '.join(said)}." if english else f"用户{'；'.join(said)}。"
                return Sentence(text, (path,))
    return None


def _money(slots: Slots, english: bool) -> Sentence | None:
    for path, slot in slots.items():
        monthly = slots.get(f"{path}_monthly")
        if slot.unit == "money" and monthly is not None:
            place = slot.percentile
            label, month = _label(slot, english), _label(monthly, english)
            if english:
                among = f", more than {percent(place)} of all users" if place is not None else ""
                return Sentence(
                    f"Their {label} is {money(slot.value)} in all{among}; {month} is now "
                    f"{money(monthly.value)}.", (path, f"{path}_monthly"),
                )  # fmt: skip
            among = f"，高于 {percent(place)} 的用户" if place is not None else ""
            text = f"{label}共 {money(slot.value)}{among}；{month}目前是 {money(monthly.value)}。"
            return Sentence(text, (path, f"{path}_monthly"))
    return None


def _price(slots: Slots, english: bool) -> Sentence | None:
    for path, slot in slots.items():
        if slot.unit == "ratio" and abs(slot.value - 1) >= 0.005:
            share, more = percent(abs(slot.value - 1)), slot.value > 1
            if english:
                way = "more" if more else "less"
                text = f"For the same kinds of things they pay {share} {way} than others."
            else:
                text = f"购买同类商品时比其他用户{'多付' if more else '少付'} {share}。"
            return Sentence(text, (path,))
    return None


def _predicted(slots: Slots, english: bool) -> Iterator[Sentence]:
    for path, slot in slots.items():
        if slot.model is not None and isinstance(slot.value, str):
            label, sure = _label(slot, english), percent(slot.confidence)
            yield Sentence(
                f"By the estimate of a model {label} is {slot.value} ({sure})."
                if english
                else f"根据模型推测，{label}是{slot.value}（{sure}）。",
                (path,),
            )


def _others(slots: Slots, seen: set[str], english: bool) -> Iterator[Sentence]:
    """Numbers and shares by their label: what no other sentence tells."""
    rest = [
        (path, slot)
        for path, slot in slots.items()
        if path not in seen and isinstance(slot.value, int | float)
        and not path.endswith(("_drift", "_quintile")) and not isinstance(slot.value, bool)
    ]  # fmt: skip
    for path, slot in sorted(rest, key=lambda pair: (-pair[1].confidence, pair[0])):
        label = _label(slot, english)
        if slot.unit == "share":
            said = percent(slot.value)
        elif slot.unit in ("money", "events", "items", "visits"):
            said = money(slot.value)
        elif english:
            said = ""
        else:
            continue
        if not said or normal(label) in ("", normal(slot.text)):
            continue
        if english:
            yield Sentence(f"The {label} is {said}.", (path,))
        else:
            yield Sentence(f"{label}是 {said}。", (path,))
