"""Conditions over items, in the language of audiences: `price < 10 and category == "tea"`.

A field is an attribute of the item, `NAME` or `item.NAME`; of one with several values
`NAME["VALUE"]` asks whether the item has it. `item_id`, `bought`, `had` and `age` (days since the
item came) are always there, and `user.NAME` is what is declared of the user.
"""

from __future__ import annotations

import numpy as np

from limner.catalog.catalog import Catalog
from limner.events.arrays import Vocabulary
from limner.events.batch import DAY, Bool
from limner.events.expression import Field, Part, parse, problem, unknown
from limner.events.matching import Column, matches, numbers
from limner.model.protocol import History
from limner.profile.choices import choices_of
from limner.profile.facets.declared import NAMES, VALUES, Declared
from limner.profile.state import ProfileState
from limner.recommend.crowd import BOUGHT, crowd

OWN = ("item_id", "bought", "had", "age")
"""Fields of an item that are no attributes."""


def met(text: str, state: ProfileState, history: History) -> Bool:
    """Which items of the catalog meet a condition, for this user, (n_items,).

    What is not known of an item makes it meet nothing that asks for it, as in SQL. Raises
    ExpressionError, with the column, for what cannot be read, is not there or cannot be compared.
    """
    n = len(state.catalog)
    tree = parse(text)
    if not n:
        return np.zeros(0, dtype=bool)
    return np.broadcast_to(matches(tree, lambda field: _column(field, state, history)), n)


def _column(field: Field, state: ProfileState, history: History) -> Column:
    catalog = state.catalog
    first, *rest = field.parts
    if first.text == "user" and not first.keyed:
        if len(rest) != 1:
            raise problem("one attribute is named after user", first.at, "write user.NAME")
        return _declared(rest[0], state, history)
    if first.text == "item" and not first.keyed and rest:
        first, *rest = rest
    elif first.text in OWN and not rest:
        return _own(first.text, state, history)
    if first.text not in catalog.attributes or first.keyed:
        raise unknown(first, "attribute of items", [*catalog.attributes, *OWN])
    if rest:
        if len(rest) > 1 or not rest[0].keyed:
            raise problem(f"nothing follows {first.text}", rest[0].at,
                          f'to ask for one of several values: {first.text}["…"]')  # fmt: skip
        return _among(catalog, first.text, rest[0].text)
    return attribute(catalog, first.text)


def attribute(catalog: Catalog, name: str) -> Column:
    """An attribute of every item: numbers, truths or texts; of several values the first."""
    words, codes = catalog.words[name], catalog.codes_now(name)
    plain = catalog.numbers_at(name, catalog.current.view)
    known = codes >= 0
    if not np.isnan(plain).all() and not (known & np.isnan(plain)).any():
        return numbers(plain, ~np.isnan(plain))
    if len(words) <= 3 and set(filter(None, words.values)) <= {"true", "false"}:
        return Column("truth", codes == words.code("true"), known)
    return Column("text", np.maximum(codes, 0), known, words)


def _among(catalog: Catalog, name: str, value: str) -> Column:
    """Whether each item has a value of an attribute, be it one of several."""
    rows, codes = catalog.codes_at(name, catalog.current.view)
    has = np.zeros(len(catalog), dtype=bool)
    has[rows[codes == catalog.words[name].code(value)]] = True
    return Column("truth", has, np.ones(len(has), dtype=bool), present=has)


def _own(name: str, state: ProfileState, history: History) -> Column:
    n = len(state.catalog)
    every = np.ones(n, dtype=bool)
    if name == "item_id":
        return Column("text", np.arange(n), every, state.catalog.ids)
    if name == "age":
        since = crowd(state, history.now).since
        return numbers((history.now - since) / DAY, since > 0)
    mask = np.zeros(n, dtype=bool)
    mask[history.items if name == "had" else history.items[history.weights >= BOUGHT]] = True
    return Column("truth", mask, every)


def _declared(part: Part, state: ProfileState, history: History) -> Column:
    """What is declared of the user, not known of who is none."""
    facet = next((facet for facet in state.facets if isinstance(facet, Declared)), None)
    names, texts = state.vocabulary(NAMES), state.vocabulary(VALUES)
    text = None
    if facet is not None and history.row >= 0:
        keys, values = state.pools[facet.name].entries(history.row)
        found = np.flatnonzero(keys == names.code(part.text))
        since = choices_of(state, history.row).since(f"{facet.config.section}.{part.text}")
        if len(found) and since is not None and values["t"][found[0]] > since:
            text = texts.values[values["value"][found[0]]]
    if text is None and names.code(part.text) < 0 and len(names):
        raise unknown(part, "attribute that is declared of anybody", filter(None, names.values))
    known = np.array([text is not None])
    return Column("text", np.zeros(1, np.int32), known, Vocabulary([text or ""]), constant=True)
