"""Every kind of facet says how its slots are calculated."""

from __future__ import annotations

from typing import Any

import pytest

from limner.profile.facet import FacetConfig, Slot
from limner.profile.facets import KINDS, LABEL, READERS, build, labels
from limner.profile.formulas import formula

NEEDS: dict[str, dict[str, Any]] = {
    "affinity": {"key": "item.category", "weights": {"view": 1.0}},
    "price_level": {"key": "item.category"},
    "histogram": {"key": "hour"},
    "places": {"key": "properties.region"},
}


def reader_of(kind: str, **settings: Any) -> Any:
    """A facet (or label) of this kind, with the one that it reads if it needs one."""
    config = FacetConfig("f", kind, "value", "f", **{**NEEDS.get(kind, {}), **settings})
    if kind == LABEL:
        return labels([config])[0]
    beside = [FacetConfig("of", READERS[kind][0], "value")] if kind in READERS else []
    return next(facet for facet in build([*beside, config]) if facet.name == "f")


def slot(name: str = "f") -> Slot:
    return Slot(name, "value", "f", 1.0, "1", 0.5, 5, 0, facet="f")


@pytest.mark.parametrize("kind", [*KINDS, *READERS, LABEL])
def test_every_kind_has_a_formula_of_its_own(kind: str) -> None:
    reader = reader_of(kind)
    assert formula.dispatch(type(reader)) is not formula.dispatch(object)
    said = formula(reader, slot())
    assert said.text[0].isupper()
    assert said.text.endswith(".")
    assert len(said.changes) >= 2
    assert all(hasattr(FacetConfig, name) for name in said.settings)


def test_a_kind_from_elsewhere_says_what_its_class_says() -> None:
    class Moon:
        """The phase of the moon.

        And more.
        """

    assert formula(Moon(), slot()).text == "The phase of the moon."  # type: ignore[arg-type]


SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "half_life": ({"half_life": "77d"}, "77 days"),
    "short_half_life": ({"short_half_life": "3d"}, "3 days"),
    "bound": ({"bound": 1234}, "1,234"),
    "where": ({"where": {"event_type": ["a", "b"], "value": ">7"}}, "of type a or b"),
    "gap": ({"gap": "45m"}, "45 minutes"),
    "only": ({"only": {"properties.c": ">0"}}, "whose c is > 0"),
    "among": ({"among": {"item.brand": "P"}}, "whose item brand is P"),
    "over": ({"over": ["properties.cost"]}, "cost"),
    "weights": ({"weights": {"like": 2.5}}, "like 2.5"),
}


@pytest.mark.parametrize("kind", [*KINDS, *READERS])
def test_the_settings_that_a_formula_depends_on_are_said_in_it(kind: str) -> None:
    for name, (given, said) in SETTINGS.items():
        found = [formula(reader_of(kind, **given), slot(n)) for n in ("f", "f_drift", "f_monthly")]
        if any(name in each.settings for each in found):
            assert any(said in each.text for each in found), (kind, name, found[0].text)
        else:
            assert not any(said in each.text for each in found), (kind, name, found[0].text)
