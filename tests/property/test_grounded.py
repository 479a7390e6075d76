"""Law 7: every sentence is grounded, and what is changed in a true one is noticed."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.property.people import events, opened

from limner.explain.facts import normal, numbers_in
from limner.explain.grounding import ungrounded
from limner.explain.lexicon import Language
from limner.explain.narrative import MOST, Slots, all_facts, by_template
from limner.profile.facet import Entry, Slot

NOW = 1_700_000_000_000_000
DAY = 86_400_000_000

shares = st.floats(0.01, 0.97)
words = st.sampled_from(["tea", "COFFEE", "bread", "Green Soap", "茶叶", "no. 7 & co", "new", "50"])


@st.composite
def slot_maps(draw: st.DrawFn) -> Slots:
    """Readable slots as facets of several kinds would give them."""
    keys = draw(st.lists(words, min_size=1, max_size=5, unique=True))
    ranked = [
        Entry(key, 1.0, draw(shares), draw(shares), draw(st.none() | st.floats(0.1, 9.0)))
        for key in keys
    ]
    ranked.sort(key=lambda entry: -entry.share)
    level, place = draw(st.floats(0.3, 3.0)), draw(st.none() | st.floats(0, 1))
    spend = draw(st.floats(0.01, 1e6))
    opinions = {key: draw(st.sampled_from([-1.0, 1.0])) for key in keys}
    days = {"Monday": draw(st.integers(1, 50)), "Friday": draw(st.integers(1, 50))}
    age = draw(st.integers(0, 900 * DAY))

    def slot(name: str, section: str, label: str, value: object, unit: str | None, text: str = "",
             percentile: float | None = None, facet: str = "f") -> Slot:  # fmt: skip
        return Slot(name, section, label, value, text or label, 0.8, draw(st.integers(1, 500)),  # type: ignore[arg-type]
                    NOW - age, unit, percentile=percentile, facet=facet)  # fmt: skip

    every = {
        "basic.age": slot("age", "basic", "age", "35-54", None, "35-54", facet="declared"),
        "behaviour.days_since_last": slot("days_since_last", "behaviour", "last seen",
                                          age / DAY, "days"),
        "behaviour.weekdays": slot("weekdays", "behaviour", "days of the week", days, "events"),
        "interests.type": slot("type", "interests", "kinds of product", ranked, "share"),
        "interests.opinions": slot("opinions", "interests", "likes and dislikes", opinions,
                                   "opinion"),
        "value.spend": slot("spend", "value", "spend", spend, "money", percentile=place),
        "value.spend_monthly": slot("spend_monthly", "value", "spend a month", spend / 7, "money"),
        "value.price_level": slot("price_level", "value", "price level", level, "ratio"),
        "value.coupons": slot("coupons", "value", "coupon use", draw(shares), "share"),
    }  # fmt: skip
    chosen = draw(st.sets(st.sampled_from(sorted(every)), min_size=1))
    return {path: every[path] for path in every if path in chosen}


@given(slot_maps(), st.sampled_from(["en", "zh"]))
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_shown_is_grounded_and_a_changed_number_is_not(
    slots: Slots, language: Language
) -> None:
    facts = all_facts(slots, NOW)
    said = by_template(slots, NOW, language)
    assert len(said.sentences) <= MOST
    for sentence in said.sentences:
        assert ungrounded(sentence.text, sentence.slots, facts) is None
        assert ungrounded(sentence.text, (), facts) is not None
        assert ungrounded(sentence.text + " ferrari", sentence.slots, facts) is not None
        for match in re.finditer(r"\d+(?:\.\d+)? %", sentence.text):
            wrong = f"{sentence.text[: match.start()]}773 %{sentence.text[match.end() :]}"
            assert ungrounded(wrong, sentence.slots, facts) is not None


PAIRS = {"en": [("less", "more"), ("like", "dislike"), ("rising", "falling")],
         "zh": [("少付", "多付"), ("不喜欢", "喜欢"), ("下降", "上升")]}  # fmt: skip


@given(slot_maps(), st.sampled_from(["en", "zh"]))
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_a_turned_direction_is_noticed(slots: Slots, language: Language) -> None:
    facts = all_facts(slots, NOW)
    for sentence in by_template(slots, NOW, language).sentences:
        for one, other in PAIRS[language]:
            if language == "en":
                found = re.findall(rf"\b(?:{one}|{other})\b", sentence.text)
                swap = {one: other, other: one}
                turned = re.sub(rf"\b(?:{one}|{other})\b", lambda m: swap[m[0]], sentence.text)  # noqa: B023
            else:
                found = re.findall(f"{one}|{other}", sentence.text)
                swap = {one: other, other: one}
                turned = re.sub(f"{one}|{other}", lambda m: swap[m[0]], sentence.text)  # noqa: B023
            if found and "than 50 %" not in sentence.text and "于 50 %" not in sentence.text:
                assert ungrounded(turned, sentence.slots, facts) is not None, turned


@given(events(["a", "b"]))
@settings(max_examples=15, deadline=None)
def test_portraits_of_random_users_are_written_in_three_to_eight_grounded_sentences(
    rows: list[dict[str, object]],
) -> None:
    with opened() as app:
        app.record(rows)
        app.refresh_population()
        for user in {str(row["user_id"]) for row in rows}:
            for language in ("en", "zh"):
                said = app.portrait(user, written=language).written
                assert said is not None
                assert 3 <= len(said.sentences) <= 8
                assert said.by == "template" and not said.dropped
                assert user not in re.findall(r"\w+", said.text.replace(" a ", " "))


COFFEE = Entry("coffee", 1.0, 0.4, 0.2, 2.1)
TEA = Entry("tea", 1.0, 0.3, 0.6, 0.5)
FACTS = all_facts(
    {
        "interests.type": Slot("type", "interests", "kinds of product", [COFFEE, TEA], "", 0.8, 42,
                               NOW - 400 * DAY, "share"),
        "interests.opinions": Slot("opinions", "interests", "", {"oats": 1.0, "soap": -1.0}, "",
                                   0.8, 2, NOW, "opinion"),
        "basic.age": Slot("age", "basic", "age", "35-54", "35-54", 0.8, 1, NOW),
        "basic.city": Slot("city", "basic", "city", "Bonn", "Bonn", 0.8, 1, NOW),
        "value.spend": Slot("spend", "value", "spend", 1234.5, "1,234 in all", 0.8, 42, NOW,
                            "money", percentile=0.83),
    },
    NOW,
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "slots", "holds"),
    [
        ("They buy coffee (40 %) and tea (30 %).", ["type"], True),
        ("They buy coffee (30 %) and tea (40 %).", ["type"], False),
        ("40 % of what they choose is coffee.", ["type"], True),
        ("Tea is rising and coffee is falling.", ["type"], True),
        ("Tea is falling and coffee is rising.", ["type"], False),
        ("Coffee and tea are rising.", ["type"], False),
        ("They buy more coffee than others.", ["type"], True),
        ("They buy more tea than others.", ["type"], False),
        ("They like oats and dislike soap.", ["opinions"], True),
        ("They like oats and soap.", ["opinions"], False),
        ("They do not like oats.", ["opinions"], False),
        ("Their spend is 1,233 in all, more than 83 % of all users.", ["spend"], False),
        ("Their spend is 1,234.5 in all, more than 83 % of all users.", ["spend"], True),
        ("Their spend is 1,235.5 in all.", ["spend"], False),
        ("Their spend is more than 93 % of all users.", ["spend"], False),
        ("Their spend is lower.", ["spend"], False),
        ("Their age is 35-54, city Bonn.", ["age", "city"], True),
        ("Their city is 35-54, age Bonn.", ["age", "city"], False),
        ("They buy coffee.", ["spend"], False),
        ("They are pregnant.", ["type"], False),
        ("They bought forty kinds of coffee.", ["type"], False),
        ("They bought two kinds of coffee.", ["type"], False),
        ("They buy coffee at http://evil.example.", ["type"], False),
        ("茶 30 %。", ["type"], False),
        ("主要选择coffee（40 %）、tea（30 %）。", ["type"], True),
        ("tea在下降。", ["type"], False),
        ("喜欢oats；不喜欢soap。", ["opinions"], True),
        ("喜欢soap。", ["opinions"], False),
        ("消费额高于 83 % 的用户。", ["spend"], True),
        ("消费额低于 83 % 的用户。", ["spend"], False),
        ("该用户怀孕了。", ["type"], False),
    ],
)
def test_numbers_names_and_directions(text: str, slots: list[str], holds: bool) -> None:
    paths = [path for name in slots for path in FACTS if path.endswith("." + name)]
    wrong = ungrounded(text, paths, FACTS)
    assert (wrong is None) is holds, wrong


def test_a_sentence_rests_on_a_few_slots_that_there_are() -> None:
    assert ungrounded("They buy coffee.", ["interests.typo"], FACTS) is not None
    assert ungrounded("They buy coffee.", list(FACTS), FACTS) is not None
    assert [number.value for _, number in numbers_in(normal("１２ 个月"))] == [12 * 30.44]
