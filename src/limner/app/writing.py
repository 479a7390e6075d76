"""The written portrait of the app: which slots may be told, and what their keys are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from limner.app.asking import of_people
from limner.errors import UsageError
from limner.events.batch import PROPERTY
from limner.explain import writing
from limner.explain.facts import readable
from limner.explain.lexicon import Language
from limner.profile.portrait import Portrait, Written
from limner.recommend.recommend import title_of

if TYPE_CHECKING:
    from limner.app.limner import Limner

LANGUAGES: tuple[Language, ...] = ("en", "zh")


def written(app: Limner, seen: Portrait, language: str) -> Written:
    """A portrait in a few sentences. Raises UsageError for a language that there is not."""
    chosen = next((name for name in LANGUAGES if name == language), None)
    if chosen is None:
        raise UsageError(
            f"no portrait is written in {language!r}", mend=f"use {' or '.join(LANGUAGES)}"
        )
    with app.writer.lock:
        slots = readable(seen, _titles(app), {*of_people(app), *_of_models(app)}, _wordy(app))
    return writing.written(slots, seen.at, chosen, app.config.llm)


def _of_models(app: Limner) -> set[str]:
    """Facets of what a language model proposed, which no other one is given to rest on (law 7)."""
    return {facet.name for facet in app.config.facet if facet.kind == "proposed"}


def _wordy(app: Limner) -> set[str]:
    """Facets whose keys come from what users write or do, not from the shop's own catalog."""
    return {
        facet.name
        for facet in app.config.facet
        if facet.kind in ("keywords", "topics") or facet.key.startswith(PROPERTY)
    }


def _titles(app: Limner) -> dict[str, Callable[[str], str]]:
    """Facets whose keys are items' ids, and what calls them by their titles."""
    catalog = app.state.catalog

    def title(item_id: str) -> str:
        code = catalog.ids.code(item_id)
        return title_of(catalog, code) if code >= 0 else item_id

    pools = app.state.pools
    return {name: title for name in pools if ("key", "item_id") in pools[name].spec.texts}
