"""Each further kind of facet on cases small enough to work out by hand."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.profile.small import NOW, Row, event, item, slots, slots_of, state_of

from limner.catalog.vectors import HashedVectors
from limner.errors import ConfigError, ModelError
from limner.events.batch import DAY, SECOND, EventBatch
from limner.events.tokens import tokens
from limner.profile.facet import Entry, Facet, FacetConfig, Slot
from limner.profile.facets import build
from limner.profile.facets.numbers import ACCURACY, buckets, middles
from limner.profile.facets.text import Topics
from limner.profile.sentiment import sentiment
from limner.profile.state import ProfileState
from limner.profile.topics import TopicModel, learn
from limner.testing.laws import LAWS

MINUTE = 60 * SECOND
WEIGHTS = {"purchase": 1.0, "view": 0.2, "follow": 0.5, "share": 0.5, "unfollow": -0.5}


def test_count_without_a_key_is_a_number() -> None:
    slot = slots("count", [event(), event(), event(event_type="view")], text="{} in all")["f"]
    assert (slot.value, slot.text, slot.events) == (3, "3 in all", 3)


def test_a_number_is_counted_by_its_band() -> None:
    rows = [event(value=value) for value in (0.5, 5.0, 9.99, 10.0, 200.0, None)]
    assert slots("count", rows, key="value", bands=[5, 10, 20])["f"].value == {
        "5 to 10": 2,
        "10 to 20": 1,
        "20 and over": 1,
        "under 5": 1,
    }


def test_click_through_is_clicks_over_impressions() -> None:
    rows = [event(event_type="impression") for _ in range(8)]
    rows += [event(event_type="click") for _ in range(2)] + [event()]
    rate = {
        "of": ["1"],
        "where": {"event_type": ["impression", "click"]},
        "only": {"event_type": "click"},
        "among": {"event_type": "impression"},
        "unit": "share",
    }
    slot = slots("rate", rows, **rate)["f"]
    assert slot.value == pytest.approx(0.25)
    assert slot.events == 10
    assert slots("rate", rows[8:], **rate) == {}  # clicks of nothing shown are no rate


@pytest.mark.parametrize("days", [10, 100, 1_000])
def test_frequency_is_the_pace_of_a_steady_user_however_new(days: int) -> None:
    rows = [event(NOW - n * DAY // 2) for n in range(2 * days)]
    slot = slots("frequency", rows, half_life="90d")["f"]
    assert slot.value == pytest.approx(2.0, rel=0.06)
    assert slot.unit == "events a day"


def test_one_event_is_at_most_one_a_day() -> None:
    assert slots("frequency", [event()])["f"].value == pytest.approx(1.0, rel=0.01)


def test_sessions_end_with_a_pause() -> None:
    offsets = [0, 10, 39, 69, 100, 131]  # minutes: 31 after 69 and after 100
    rows = [event(NOW - DAY + minutes * MINUTE, value=1.0) for minutes in offsets]
    found = slots("sessions", rows, name="visits", gap="30m")
    assert found["visits"].value == 3
    assert found["visits_dwell"].value == pytest.approx(69 * 60 / 3)
    assert found["visits_size"].value == 2
    assert found["visits_value"].value == 2
    assert found["visits"].error is None


@LAWS
@given(
    offsets=st.lists(st.integers(0, 600), min_size=1, max_size=40),
    gap=st.integers(1, 60),
    order=st.randoms(use_true_random=False),
)
def test_sessions_are_those_of_the_sorted_times(
    offsets: list[int], gap: int, order: Random
) -> None:
    rows = [event(NOW + minutes * MINUTE) for minutes in offsets]
    state = state_of("sessions", [], gap=f"{gap}m", bound=700)
    shuffled = list(rows)
    order.shuffle(shuffled)
    for place, row in enumerate(shuffled):
        state.fold(place, EventBatch.of([row]))
    times = np.sort(np.array(offsets))
    parts = np.split(times, np.flatnonzero(np.diff(times) > gap) + 1)
    found = slots_of(state, now=NOW + DAY)
    assert found["f"].value == len(parts)
    dwell = np.mean([part[-1] - part[0] for part in parts]) * 60
    assert found["f_dwell"].value == pytest.approx(dwell)


def test_sessions_beyond_the_bound_are_counted_at_the_rate_of_the_kept_ones() -> None:
    rows = [event(NOW - n * DAY) for n in range(100)]
    state = state_of("sessions", [], bound=8)
    for n, row in enumerate(reversed(rows)):
        state.fold(n, EventBatch.of([row]))
    slot = slots_of(state)["f"]
    assert slot.value == pytest.approx(100)
    assert slot.error is not None and 0.8 < slot.error < 0.95


@LAWS
@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=50))
def test_moments_are_those_of_numpy(cents: list[int]) -> None:
    x = np.array(cents) / 100
    found = slots("moments", [event(value=float(v)) for v in x])
    assert found["f"].value == pytest.approx(x.mean())
    assert found["f_variance"].value == pytest.approx(x.var(ddof=1), rel=1e-6, abs=1e-9 * x.max())
    if x.std() > 1e-3 * x.mean():
        skew = ((x - x.mean()) ** 3).mean() / x.var() ** 1.5
        assert found["f_skew"].value == pytest.approx(skew, abs=1e-4)


def test_equal_numbers_have_no_spread_and_missing_ones_do_not_count() -> None:
    found = slots("moments", [event(value=0.1)] * 7 + [event(value=None)])
    assert (found["f_variance"].value, found["f_skew"].value, found["f"].events) == (0, 0, 7)


@LAWS
@given(st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=200))
def test_quantiles_are_within_the_stated_error(cents: list[int]) -> None:
    x = np.array(cents) / 100
    slot = slots("quantiles", [event(value=float(v)) for v in x], bound=2_000)["f"]
    assert slot.error == ACCURACY
    for name, found in slot.value.items():
        exact = np.quantile(x, int(name[1:]) / 100, method="lower")
        assert abs(found - exact) <= ACCURACY * abs(exact) * (1 + 1e-9) + 1e-9


def test_every_number_is_within_the_error_of_its_bucket() -> None:
    x = np.concatenate([-np.logspace(-9, 12, 5_000), [0.0], np.logspace(-9, 12, 5_000)])
    error = np.abs(middles(buckets(x).astype(np.int64)) - x)
    assert (error <= ACCURACY * np.abs(x) * (1 + 1e-9)).all()


def test_quantiles_that_let_buckets_go_say_so() -> None:
    rows = [event(value=1.5**n) for n in range(40)]
    slot = slots("quantiles", rows, bound=8)["f"]
    assert slot.error is not None and slot.error > 0.5


def test_distinct_counts_values_of_any_column() -> None:
    kinds = [item(f"i{n}", tags=[f"t{n}", f"t{n + 1}"]) for n in range(9)]
    rows = [event(item_id=f"i{n}", properties_city=f"c{n % 3}") for n in range(9)] * 2
    assert slots("distinct", kinds + rows, key="item.tags")["f"].value == 10
    assert slots("distinct", kinds + rows, key="properties.city")["f"].value == 3
    assert slots("distinct", kinds + rows, key="properties.city")["f"].events == 18


# -- opinions --------------------------------------------------------------------------------


def test_a_later_dislike_supersedes_a_like_at_once() -> None:
    liked = event(NOW, event_type="like", item_id="a")
    disliked = event(NOW + 1, event_type="dislike", item_id="a")
    other = event(NOW - 5, event_type="rating", value=5.0, item_id="b")
    assert slots("preference", [liked, other])["f"].value == {"a": 1.0, "b": 1.0}
    for rows in ([liked, disliked, other], [disliked, other, liked]):
        slot = slots("preference", rows)["f"]
        assert slot.value == {"a": -1.0, "b": 1.0}
        assert slot.text == "likes b; dislikes a"


def test_what_is_taken_back_is_no_opinion() -> None:
    rows = [
        event(NOW, event_type="bookmark", item_id="a"),
        event(NOW + 1, event_type="remove_bookmark", item_id="a"),
        event(NOW, event_type="rating", item_id="b"),  # without stars
        event(NOW, event_type="view", item_id="c"),
    ]
    slot = slots("preference", rows)["f"]
    assert (slot.value, slot.events) == ({}, 2)


def test_stars_are_an_opinion_by_their_distance_from_three() -> None:
    rows = [event(event_type="rating", value=v, item_id=f"i{v:g}") for v in (1.0, 3.0, 4.0)]
    assert slots("preference", rows)["f"].value == {"i1": -1.0, "i4": 0.5}


def test_an_opinion_can_be_of_a_brand() -> None:
    rows = [item("a", brand="Aa"), event(event_type="dislike", item_id="a")]
    assert slots("preference", rows, key="item.brand")["f"].value == {"Aa": -1.0}


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("What a wonderful, lovely tea. I love it!", 0.6, 1),
        ("Terrible. The worst coffee, it broke and I hate it.", -1, -0.6),
        ("这个产品质量非常好，我很喜欢，强烈推荐", 0.5, 1),
        ("质量太差了，非常失望，不要买", -1, -0.3),
        ("", 0, 0),
        ("12345 !!!", 0, 0),
    ],
)
def test_sentiment_of_english_and_chinese(text: str, low: float, high: float) -> None:
    assert low <= sentiment(text) <= high


def test_the_mood_of_a_user_is_a_mean_in_which_newer_texts_count_more() -> None:
    good, bad = "I love it, wonderful!", "I hate it, terrible!"
    rows = [
        event(NOW - 10 * DAY, properties_text=bad),
        event(NOW, properties_text=good),
        event(NOW, properties_text=None),
    ]
    slot = slots("sentiment", rows, half_life="10d")["f"]
    assert slot.value == pytest.approx((0.5 * sentiment(bad) + sentiment(good)) / 1.5)
    assert slot.events == 2


# -- places and people -----------------------------------------------------------------------


def test_home_is_the_place_of_evenings() -> None:
    noon, night = NOW + DAY // 2, NOW + DAY * 22 // 24
    rows = [event(noon, properties_city="Work")] * 3 + [event(night, properties_city="Home")] * 2
    found = slots_of(state_of("places", rows, key="properties.city"), now=NOW + DAY)
    assert found["f"].value == pytest.approx({"Work": 0.6, "Home": 0.4}, rel=0.01)
    assert found["f_home"].value == "Home"
    by_day = slots_of(state_of("places", rows[:3], key="properties.city"), now=NOW + DAY)
    assert by_day["f_home"].value == "Work"


def test_ties_are_by_target_and_fade() -> None:
    friend, other = b"f" * 16, b"o" * 16
    rows = [
        event(NOW - 10 * DAY, event_type="follow", target_user_id=friend),
        event(NOW, event_type="share", target_user_id=friend),
        event(NOW, event_type="share", target_user_id=other),
        event(NOW, event_type="unfollow", target_user_id=other),
    ]
    slot = slots("ties", rows, weights=WEIGHTS, half_life="10d")["f"]
    assert slot.value == pytest.approx({friend.hex(): 0.75})
    follows = {"key": "target_user_id", "where": {"event_type": ["follow", "unfollow"]}}
    assert slots("preference", rows, **follows)["f"].value == {friend.hex(): 1.0}


# -- words and topics ------------------------------------------------------------------------


def test_keywords_are_the_words_of_texts_of_both_languages() -> None:
    rows = [
        event(event_type="search", properties_query="the black tea"),
        event(event_type="search", properties_query="green tea cups 绿茶"),
        event(event_type="view", properties_query="not weighed"),
    ]
    slot = slots("keywords", rows, weights={"search": 0.1})["f"]
    shares = {entry.key: entry.share for entry in slot.value}
    assert shares == pytest.approx(
        {"tea": 2 / 6, "black": 1 / 6, "green": 1 / 6, "cups": 1 / 6, "绿茶": 1 / 6}
    )


def test_keywords_of_an_item_are_those_of_its_title() -> None:
    rows = [item("a", title="Espresso machine"), event(item_id="a")]
    slot = slots("keywords", rows, texts=["item.title"], weights={"purchase": 1.0})["f"]
    assert [entry.key for entry in slot.value] == ["espresso", "machine"]


@given(st.text(max_size=60))
def test_any_text_has_tokens(text: str) -> None:
    found = tokens(text)
    assert len(set(found)) == len(found)
    assert all(word and word == word.casefold() for word in found)


THEMES = ("tea kettle leaf infusion", "guitar string chord amplifier", "tent hiking boots trail")


def readers(n: int = 60) -> tuple[tuple[Facet, ...], ProfileState]:
    """Users who each read of one of three themes."""
    facets = build(
        [
            FacetConfig("topics", "topics", "value"),
            FacetConfig("words", "keywords", "value", weights={"view": 1.0}),
        ]
    )
    state = ProfileState(facets)
    random = np.random.default_rng(3)
    rows = [
        event(
            NOW,
            user_id=bytes([user + 1]) * 16,
            event_type="view",
            properties_text=" ".join(random.permutation(THEMES[user % 3].split())[:3]),
        )
        for user in range(n)
        for _ in range(3)
    ]
    state.fold(0, EventBatch.of(rows))
    return facets, state


def bags(state: ProfileState) -> tuple[Any, Any, Any, list[str]]:
    rows, keys, values = state.pools["words"].every()
    return rows, keys, values["w"][:, 1], state.words["keywords.words"].values


def test_topics_are_the_themes_that_users_read_of() -> None:
    facets, state = readers()
    reader = facets[0]
    assert isinstance(reader, Topics)
    assert slots_of(state, bytes([1]) * 16).keys() == {"words", "words_drift"}
    model = learn(*bags(state), topics=3, at=NOW)
    assert {frozenset(name.split(", ")) for name in model.names} == {
        frozenset(theme.split()) for theme in THEMES
    }
    reader.learned[:] = [model]
    for user in range(3):
        (entry,) = slots_of(state, bytes([user + 1]) * 16)["topics"].value
        assert isinstance(entry, Entry)
        assert set(entry.key.split(", ")) == set(THEMES[user].split())
        assert entry.share == pytest.approx(1, abs=0.02)
    early = slots_of(state, bytes([1]) * 16, now=NOW - 1)
    assert "topics" not in early  # what was learned later is not known yet


def test_topics_are_repeatable_and_come_back_from_a_file(tmp_path: Path) -> None:
    _, state = readers()
    model = learn(*bags(state), topics=3, at=NOW)
    _, again = readers()
    assert learn(*bags(again), topics=3, at=NOW + 1).version == model.version
    model.save(tmp_path / "topics" / "topics.npz")
    loaded = TopicModel.load(tmp_path / "topics" / "topics.npz")
    assert (loaded.version, loaded.names, loaded.at) == (model.version, model.names, NOW)


def test_a_word_of_few_users_is_in_no_topic_and_little_text_is_refused() -> None:
    _, state = readers()
    secret = event(user_id=b"s" * 16, event_type="view", properties_text="zanzibar tea kettle")
    state.fold(state.position, EventBatch.of([secret] * 9))
    assert "zanzibar" not in learn(*bags(state), topics=3, at=NOW).words
    _, few = readers(4)
    with pytest.raises(ModelError, match="too little text"):
        learn(*bags(few), topics=3, at=NOW)


# -- interest vectors ------------------------------------------------------------------------

ITEMS = [
    item("tea1", title="Black tea", category="tea", brand="Oma", price=4.0),
    item("tea2", title="Green tea", category="tea", brand="Oma", price=4.5),
    item("guitar", title="Steel guitar", category="music", brand="Fret", price=400.0),
]


def test_items_that_share_attributes_lie_close() -> None:
    state = state_of("count", ITEMS)
    catalog = state.catalog
    items = np.arange(3, dtype=np.int32)
    v = HashedVectors().of(catalog, items, catalog.versions_at(items, np.full(3, NOW)))
    assert np.linalg.norm(v, axis=1) == pytest.approx(1, abs=1e-6)
    assert v[0] @ v[1] > 0.6 > 0.4 > abs(v[0] @ v[2])


def taste_of(rows: list[Row], now: int = NOW) -> dict[str, Slot]:
    facets = build(
        [
            FacetConfig("taste", "interest_vector", "value", short_half_life="5d"),
            FacetConfig("history", "history", "value", weights=WEIGHTS),
        ]
    )
    state = ProfileState(facets)
    state.fold(0, EventBatch.of(ITEMS + rows))
    return slots_of(state, now=now)


def test_drift_is_nought_for_one_interest_and_grows_when_it_turns() -> None:
    steady = [event(NOW - n * DAY, item_id="tea1") for n in range(60)]
    turned = [event(NOW - n * DAY, item_id="guitar" if n < 8 else "tea1") for n in range(60)]
    still, moved = taste_of(steady), taste_of(turned)
    assert still["taste_drift"].value == pytest.approx(0, abs=1e-9)
    assert 0.3 < moved["taste_drift"].value <= 2
    assert moved["taste_short"].text == "lately to Steel guitar and Black tea"
    assert moved["taste"].facet == "history"
    later = taste_of(turned, now=NOW + 50 * DAY)
    assert later["taste"].value == pytest.approx(moved["taste"].value)


def test_a_vector_of_the_past_reads_the_items_of_the_past() -> None:
    changed = {**item("tea1", title="Electric bass", category="music"), "timestamp": NOW + DAY}
    rows = [event(NOW, item_id="tea1"), changed]
    before, after = taste_of(rows, NOW), taste_of(rows, NOW + 2 * DAY)
    assert before["taste"].text == "nearest to Black tea"
    assert np.dot(before["taste"].value, after["taste"].value) < 0.7


# -- making ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "says", "mend"),
    [
        ({"kind": "afinity"}, "kind 'afinity' does not exist", "did you mean 'affinity'"),
        ({"kind": "affinity"}, "needs key", "item.category"),
        ({"kind": "places"}, "needs key", "properties.region"),
        ({"kind": "histogram", "key": "item_id"}, "by hour or weekday", "weekday"),
        ({"kind": "sessions", "key": "item_id"}, "cannot be told", "group_id"),
        ({"kind": "topics"}, "reads one of kind 'keywords', and there is none", "keywords"),
        ({"kind": "interest_vector", "reads": "h"}, "none called 'h'", '"history"'),
        ({"kind": "count", "key": "value", "bands": [3, 1]}, "no ascending", "bands = "),
        ({"kind": "sessions", "gap": "soon"}, "'soon' is no duration", "30d"),
        ({"kind": "rate", "among": {"colour": "red"}}, "'colour' is no column", "event_type"),
    ],
)
def test_a_facet_that_cannot_be_made_says_why(config: dict[str, Any], says: str, mend: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        build([FacetConfig(**{"name": "f", "section": "value"} | config)])
    assert mend in str(caught.value.mend)


def test_a_reader_is_told_of_the_nearest_name() -> None:
    words = FacetConfig("words", "keywords", "value")
    with pytest.raises(ConfigError) as caught:
        build([words, FacetConfig("topics", "topics", "value", reads="word")])
    assert caught.value.mend == "did you mean 'words'?"
