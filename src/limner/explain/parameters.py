"""The main parameters of the ranking in plain words, from the settings and the learned weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from limner.recommend.rank import RecommendConfig

MEANS: Mapping[str, str] = {
    "popularity": "what everybody buys these weeks",
    "frequency": "what you buy again and again, and when it is due",
    "item_to_item": "what others choose who chose the same things as you",
    "ease": "what others choose who chose the same things as you, with overlaps taken out",
    "transitions": "what usually follows what you did last",
    "taste": "the directions of taste that your choices show",
    "discovery": "what people with your tastes come to choose for the first time",
    "content": "items that say the same of themselves as those you chose",
    "sequence": "what a model of sequences expects next, from the order and times of what you did",
    "policy": "what lists have earned when they were shown to people like you",
    "popular": "what everybody does these weeks",
    "trending": "what is chosen more often this week than the week before",
    "new": "what came just now",
    "portrait": "items near your interests and what you lean to",
    "neighbours": "what the people choose whose choices are most like yours",
    "group": "what people choose who declared the same, or are of the same cluster",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """Something that a list depends on: `name` as settings have it, what it `means`, and how much
    it counts: `weights` by task (see `limner models`), empty where it is no weighted part.
    """

    name: str
    means: str
    weights: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Parameters:
    """The main parameters of a list, strongest first, and how a user can `change` them."""

    parameters: tuple[Parameter, ...]
    change: tuple[str, ...]


def parameters(config: RecommendConfig, learned: Mapping[str, Mapping[str, float]]) -> Parameters:
    """Those of these settings. `learned`: by family its weight in each task, empty if untrained."""
    families = {name: weights for name, weights in learned.items() if any(weights.values())}
    if config.families:
        families = {name: learned.get(name, {}) for name in config.families}
    elif not families:
        families = {"popular": {}, "portrait": {}}
    order = sorted(families, key=lambda name: -max(families[name].values(), default=0.0))
    out = [Parameter(name, MEANS.get(name, name), families[name]) for name in order]
    out.extend(Parameter(name, means, {}) for name, means in _rules(config))
    return Parameters(
        tuple(out),
        (
            "ask for lists that are not personalised",
            "turn off a slot of the portrait, or mark it wrong",
            "see why an item is in the list or not",
        ),
    )


def _rules(config: RecommendConfig) -> Sequence[tuple[str, str]]:
    out = [("filter", f"only items for which holds: {text}") for text in config.filters]
    for text, amount in config.boosts.items():
        way = "moved up" if amount > 0 else "moved down"
        out.append(("boosts", f"items are {way} for which holds: {text}"))
    if config.repeats == "learned":
        out.append(("repeats", "what you bought comes again only if such things are bought again"))
    elif not config.repeats:
        out.append(("repeats", "what you had does not come again"))
    if config.freshness:
        out.append(("freshness", "new items are moved up"))
    if config.fade:
        out.append(("fade", "what was shown to you and passed over is moved down"))
    if config.pinned:
        out.append(("pinned", f"{len(config.pinned)} items always come first"))
    if config.excluded:
        out.append(("excluded", f"{len(config.excluded)} items never come"))
    if config.diversity:
        out.append(("diversity", "items like those before them are moved down"))
    for name, cap in config.caps.items():
        out.append(("caps", f"at most {cap} items of the same {name}"))
    if config.explore.policy != "off":
        out.append(("explore", "some places go to items that might be better than is known yet"))
    return out
