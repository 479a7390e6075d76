"""What a facet offers of many users at once: a function for its class, and what these share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import singledispatch
from typing import Any

import numpy as np
import numpy.typing as npt

from limner.events.arrays import Vocabulary
from limner.events.batch import F64, I64, Bool
from limner.events.matching import Column, numbers
from limner.profile.facet import Facet, FacetConfig, Reader
from limner.profile.facets.keyed import Keys
from limner.profile.users import Offer, SlotColumn, Users, read_one_by_one


@singledispatch
def offered(facet: Reader, users: Users) -> Offer:
    """The slots of a facet by path ("section.name"), each read when it is called."""
    return read_one_by_one(facet, users)


def vectorised(facet: Reader) -> bool:
    """Whether there is a faster way to read this facet of many users than one by one."""
    return offered.dispatch(type(facet)) is not offered.dispatch(object)


def path_of(config: FacetConfig, name: str = "") -> str:
    """Where a slot of a facet is: "section.name"."""
    return f"{config.section}.{name or config.name}"


def number_column(
    facet: Facet,
    users: Users,
    value: npt.NDArray[Any],
    known: Bool,
    n: npt.NDArray[Any],
    newest: I64,
    half_life: float | None = None,
    sure: npt.NDArray[Any] | None = None,
) -> SlotColumn:
    """A slot that is a number, where `known`."""
    certain = users.confidence(n if sure is None else sure, newest, half_life)
    return SlotColumn(known, numbers(value, known), n, newest, certain, facet.name)


def key_words(keys: Keys, vocabulary: Callable[[str], Vocabulary]) -> Vocabulary:
    """What keys are called, by their codes."""
    if keys.texts:
        return vocabulary(keys.texts[0][1])
    return Vocabulary(keys.names(None))  # type: ignore[arg-type]  # hours and ranges ask nobody


def sums(users: Users, owner: I64, values: npt.NDArray[Any]) -> F64:
    """The sum of each user's values."""
    return np.asarray(np.bincount(owner, weights=values, minlength=len(users)), dtype=np.float64)


def spread(users: Users, who: I64, values: npt.NDArray[Any], known: Bool) -> Column:
    """A number for those who have a key, 0 for the others that the slot is known of."""
    out, present = np.zeros(len(users)), np.zeros(len(users), dtype=bool)
    out[who], present[who] = values, True
    return replace(numbers(out, known), present=present & known)
