"""The kinds of facets, a file a family, and how a config becomes a facet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points

from limner.errors import ConfigError
from limner.profile.facet import Facet, FacetConfig
from limner.profile.facets.affinity import Affinity
from limner.profile.facets.counting import Count, Frequency, Histogram, Recency
from limner.profile.facets.declared import Declared
from limner.profile.facets.history import History
from limner.profile.facets.label import Label
from limner.profile.facets.money import PriceLevel, Rate, Sum
from limner.profile.facets.numbers import Distinct, Moments, Quantiles
from limner.profile.facets.opinion import Preference, Proposed, Sentiment
from limner.profile.facets.places import Places
from limner.profile.facets.sessions import Sessions
from limner.profile.facets.social import Ties
from limner.profile.facets.taste import InterestVector
from limner.profile.facets.text import Topics

KINDS: Mapping[str, Callable[[FacetConfig], Facet]] = {
    "declared": Declared,
    "count": Count,
    "sum": Sum,
    "rate": Rate,
    "recency": Recency,
    "frequency": Frequency,
    "sessions": Sessions,
    "moments": Moments,
    "quantiles": Quantiles,
    "distinct": Distinct,
    "histogram": Histogram,
    "affinity": Affinity,
    "price_level": PriceLevel,
    "history": History,
    "preference": Preference,
    "proposed": Proposed,
    "sentiment": Sentiment,
    "keywords": Affinity,
    "places": Places,
    "ties": Ties,
}
"""`kind` in a `[[facet]]` → what builds it."""

READERS: Mapping[str, tuple[str, Callable[[FacetConfig, Facet], Facet]]] = {
    "interest_vector": ("history", InterestVector),
    "topics": ("keywords", Topics),  # type: ignore[dict-item]  # `build` gives it an Affinity
}
"""Kinds without a state of their own: the kind whose state they read, and what builds them."""

LABEL = "label"
"""The kind of what a model says of a user: read from other slots, and no part of the state."""

GROUP = "limner.facets"
"""The entry point group of kinds that other packages bring: name = a kind, object = what makes
a facet of its config, such as a dataclass whose one field is `config`."""

HISTORY = "history"
"""Name of the facet of kind "history" that models read."""


def build(configs: Sequence[FacetConfig]) -> tuple[Facet, ...]:
    """The facets of these configs, in their order; without labels, which are not folded.

    Raises ConfigError for an unknown kind, a bad path or duration, or a name given twice;
    MissingExtra for a kind whose library is not installed.
    """
    made: dict[str, Facet] = {}
    kinds: dict[str, str] = {}
    for config in configs:
        config.check()
        if config.name in kinds:
            raise ConfigError(f"facet {config.name!r} is defined twice", mend="rename one of them")
        kinds[config.name] = config.kind
        if config.kind not in (*READERS, LABEL):
            made[config.name] = _maker(config)(config)
    for config in configs:
        if config.kind in READERS:
            kind, make = READERS[config.kind]
            made[config.name] = make(config, made[_source(config, kind, kinds)])
    return tuple(made[config.name] for config in configs if config.name in made)


def labels(configs: Sequence[FacetConfig]) -> tuple[Label, ...]:
    """The labels among these configs, in their order."""
    return tuple(Label(config) for config in configs if config.kind == LABEL)


def _maker(config: FacetConfig) -> Callable[[FacetConfig], Facet]:
    if config.kind in KINDS:
        return KINDS[config.kind]
    others = {point.name: point for point in _installed()}
    if config.kind in others:
        return _loaded(others[config.kind], config)
    known = [*KINDS, *READERS, LABEL, *others]
    close = get_close_matches(config.kind, known, 1)
    raise ConfigError(
        f"kind {config.kind!r} does not exist",
        where=f"facet {config.name!r}",
        mend=f"did you mean {close[0]!r}?" if close else f"use one of {', '.join(known)}",
    )


def _installed() -> Iterable[EntryPoint]:
    return entry_points(group=GROUP)


def _loaded(point: EntryPoint, config: FacetConfig) -> Callable[[FacetConfig], Facet]:
    try:
        maker = point.load()
    except Exception as error:  # whatever a foreign module does when it is imported
        raise ConfigError(
            f"kind {config.kind!r} cannot be loaded from {point.value}: {error!r}",
            where=f"facet {config.name!r}",
            mend="mend or uninstall the package that brings it",
        ) from error
    if not callable(maker):
        raise ConfigError(
            f"kind {config.kind!r} is {point.value}, which makes no facet",
            where=f"facet {config.name!r}",
            mend="let its entry point name a class or function that takes a FacetConfig",
        )
    made: Callable[[FacetConfig], Facet] = maker
    return made


def _source(config: FacetConfig, kind: str, kinds: Mapping[str, str]) -> str:
    """The name of the facet of a kind that this one reads: as set, or the first."""
    of_kind = [name for name, found in kinds.items() if found == kind]
    if config.reads in of_kind:
        return config.reads
    if of_kind and not config.reads:
        return of_kind[0]
    close = get_close_matches(config.reads, of_kind, 1)
    if of_kind:
        mend = f"did you mean {close[0]!r}?" if close else f"use one of {', '.join(of_kind)}"
    else:
        mend = f'add a facet of kind "{kind}"'
    raise ConfigError(
        f"a facet of kind {config.kind!r} reads one of kind {kind!r}, "
        f"and there is none called {config.reads!r}"
        if config.reads
        else f"a facet of kind {config.kind!r} reads one of kind {kind!r}, and there is none",
        where=f"facet {config.name!r}",
        mend=mend,
    )
