"""The kinds of facets, a file a family, and how a config becomes a facet."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from limner.errors import ConfigError
from limner.profile.facet import Facet, FacetConfig
from limner.profile.facets.affinity import Affinity
from limner.profile.facets.counting import Histogram, Recency, Tally, Variety
from limner.profile.facets.declared import Declared
from limner.profile.facets.history import LastN
from limner.profile.facets.money import PriceLevel, Ratio, Spend
from limner.profile.facets.rhythm import Visits

KINDS: dict[str, Callable[[FacetConfig], Facet]] = {
    "declared": Declared,
    "tally": Tally,
    "recency": Recency,
    "histogram": Histogram,
    "variety": Variety,
    "visits": Visits,
    "affinity": Affinity,
    "spend": Spend,
    "ratio": Ratio,
    "price_level": PriceLevel,
    "last": LastN,
}
"""`kind` in a `[[facet]]` → what builds it."""

HISTORY = "history"
"""Name of the facet of kind "last" that models read."""


def build(configs: Sequence[FacetConfig]) -> tuple[Facet, ...]:
    """The facets of these configs.

    Raises ConfigError for an unknown kind, a bad path or duration, or a name given twice.
    """
    seen: set[str] = set()
    out = []
    for config in configs:
        config.check()
        if config.kind not in KINDS:
            raise ConfigError(
                f"kind {config.kind!r} does not exist",
                where=f"facet {config.name!r}",
                mend=f"use one of {', '.join(KINDS)}",
            )
        if config.name in seen:
            raise ConfigError(f"facet {config.name!r} is defined twice", mend="rename one of them")
        seen.add(config.name)
        out.append(KINDS[config.kind](config))
    return tuple(out)
