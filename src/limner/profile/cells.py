"""Cells of the earth, as geohashes: named by a few letters, and each inside that of one fewer.

A geohash (Niemeyer, 2008) halves longitude and latitude by turns; five bits are a letter. Cells
of 1 to 8 letters are, at the equator, 5,009, 1,252, 157, 39, 4.9, 1.2, 0.15 and 0.04 km wide.
"""

from __future__ import annotations

import numpy as np

from limner.events.batch import F64, I64, Bool

LETTERS = "0123456789bcdefghjkmnpqrstuvwxyz"
MOST = 8


def inside(lat: F64, lon: F64) -> Bool:
    """Which of these are degrees of a place; 0, 0 is what a device says that knows none."""
    within: Bool = (np.abs(lat) <= 90) & (np.abs(lon) <= 180) & ((lat != 0) | (lon != 0))
    return within


def cells(lat: F64, lon: F64, letters: int) -> I64:
    """The number of the cell of each place (degrees), of 5·`letters` bits."""
    bits = 5 * letters
    east, north = (bits + 1) // 2, bits // 2
    x, y = (
        np.minimum(((degrees + half) / (2 * half) * (1 << n)).astype(np.int64), (1 << n) - 1)
        for degrees, half, n in ((lon, 180.0, east), (lat, 90.0, north))
    )
    out = np.zeros(len(lat), dtype=np.int64)
    for place in range(bits):  # from the greatest bit; longitude first
        source, left = (y, north) if place % 2 else (x, east)
        out = out << 1 | (source >> (left - 1 - place // 2)) & 1
    return out


def spelled(cell: int, letters: int) -> str:
    """The geohash of a cell."""
    return "".join(LETTERS[cell >> 5 * place & 31] for place in reversed(range(letters)))


def centre(geohash: str) -> tuple[float, float]:
    """(latitude, longitude) in the middle of a cell, in degrees."""
    sides = [[-180.0, 180.0], [-90.0, 90.0]]
    bits = "".join(f"{LETTERS.index(letter):05b}" for letter in geohash)
    for place, bit in enumerate(bits):
        side = sides[place % 2]
        side[bit == "0"] = sum(side) / 2
    lon, lat = (sum(side) / 2 for side in sides)
    return lat, lon


def said(geohash: str) -> str:
    """A cell in words: "u33db (52.49° N, 13.38° E)"."""
    lat, lon = centre(geohash)
    north, east = "N" if lat >= 0 else "S", "E" if lon >= 0 else "W"
    return f"{geohash} ({abs(lat):.2f}° {north}, {abs(lon):.2f}° {east})"
