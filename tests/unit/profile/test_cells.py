"""Cells of the earth: geohashes as others make them, and places told by them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.profile.small import NOW, event, slots_of, state_of

from limner.errors import ConfigError
from limner.events.batch import DAY
from limner.profile.cells import LETTERS, MOST, cells, centre, inside, said, spelled
from limner.profile.facet import FacetConfig
from limner.profile.facets import build

KNOWN = {
    (57.64911, 10.40744): "u4pruydq",
    (42.6, -5.6): "ezs42e44",
    (-25.382708, -49.265506): "6gkzwgjz",
    (52.52, 13.405): "u33dc0cp",
    (90.0, 180.0): "zzzzzzzz",
    (-90.0, -180.0): "00000000",
}


def geohash(lat: float, lon: float, letters: int) -> str:
    """By halving, one bit after the other: the plain reference."""
    low, high, out = [-180.0, -90.0], [180.0, 90.0], 0
    for place in range(5 * letters):
        axis = place % 2
        middle = (low[axis] + high[axis]) / 2
        above = (lon, lat)[axis] >= middle
        (low if above else high)[axis] = middle
        out = out << 1 | above
    return "".join(LETTERS[out >> 5 * place & 31] for place in reversed(range(letters)))


@pytest.mark.parametrize(("place", "wanted"), KNOWN.items())
def test_geohashes_are_those_of_others(place: tuple[float, float], wanted: str) -> None:
    for letters in range(1, MOST + 1):
        (cell,) = cells(np.array(place[:1]), np.array(place[1:]), letters)
        assert spelled(cell, letters) == wanted[:letters]


@given(st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), min_size=1, max_size=20))
def test_cells_are_as_by_halving_and_hold_their_places(places: list[tuple[float, float]]) -> None:
    lat, lon = np.array(places).T
    for letters in (1, 4, 5, MOST):
        found = [spelled(cell, letters) for cell in cells(lat, lon, letters).tolist()]
        for (north, east), name in zip(places, found, strict=True):
            middle = centre(name)
            tall, wide = 180 / (1 << 5 * letters // 2), 360 / (1 << (5 * letters + 1) // 2)
            assert abs(middle[0] - north) <= tall / 2 * (1 + 1e-9)
            assert abs(middle[1] - east) <= wide / 2 * (1 + 1e-9)
            # where they differ, the place lies on the edge, within rounding
            if name != geohash(north, east, letters):
                off = abs(middle[0] - north) - tall / 2, abs(middle[1] - east) - wide / 2
                assert min(map(abs, off)) < 1e-9


def test_what_is_no_place_is_left_out() -> None:
    lat, lon = np.array([[91, 0], [-90, 180], [0, 0], [np.nan, 1], [0, 1], [1, -181]], float).T
    assert inside(lat, lon).tolist() == [False, True, False, False, True, False]


def test_home_is_a_cell_with_its_middle() -> None:
    night, noon = NOW + DAY * 22 // 24, NOW + DAY // 2
    home = {"properties_lat": 52.52, "properties_lon": 13.405}
    work = {"properties_lat": -33.86, "properties_lon": 151.21}
    rows = [event(night, **home)] * 2 + [event(noon, **work)] * 3 + [event(noon)]
    state = state_of("places", rows, of=["properties.lat", "properties.lon"], cell=5)
    found = slots_of(state, now=NOW + DAY)
    assert found["f"].value == pytest.approx({"r3gx2": 0.6, "u33dc": 0.4}, rel=0.01)
    assert found["f_home"].value == "u33dc"
    assert found["f_home"].text == "u33dc (52.54° N, 13.43° E): 100 % of evenings and nights"
    assert found["f_home"].events == 5
    assert said("r3gx2") == "r3gx2 (33.86° S, 151.19° E)"


@pytest.mark.parametrize("wrong", [{"cell": 9}, {"cell": -1}, {"of": ["value"]}, {"key": "tz"}])
def test_cells_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    given = {"of": ["properties.lat", "properties.lon"], "cell": 5} | wrong
    with pytest.raises(ConfigError, match="are no cells"):
        build([FacetConfig("f", "places", "basic", **given)])  # type: ignore[arg-type]
