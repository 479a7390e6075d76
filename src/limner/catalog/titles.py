"""Names that a shopper would recognise, made from the texts of a shop's product table.

Such tables hold capitals, abbreviations, cut-off words and the buyer's own qualifiers
("FRZN BAGGED VEGETABLES - PLAIN"). The rules here are few and general; everything particular is
a word or a phrase in a table, `limner/domains/grocery_words.toml`, so that a shop of another
trade brings a table of its own.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limner.errors import InputError
from limner.events.batch import I64

LONGEST = 60
"""Titles have at most this many characters: one line in a terminal beside a score."""


@dataclass(frozen=True, slots=True)
class Words:
    """The table of words that the rules look things up in.

    `phrases`: a category or department → what it is called. `types`: the same for types, and
    `within`: category → type → what it is called there, for types that say nothing alone
    ("PREMIUM"). `words`: an abbreviation or a cut-off word, in lower case → the word; an empty
    one is dropped. `noise`: fragments to drop. `bare`: readable types that need their category
    beside them. `acronyms`: words that stay in capitals. `loose`: categories sold loose, where a
    size above ten pounds or pieces is the case that the shop gets, not what a shopper takes home.
    """

    phrases: Mapping[str, str]
    types: Mapping[str, str]
    within: Mapping[str, Mapping[str, str]]
    words: Mapping[str, str]
    noise: tuple[str, ...]
    bare: frozenset[str]
    acronyms: frozenset[str]
    loose: frozenset[str]


def read_words(path: Path | None = None) -> Words:
    """Read a word table; the grocery table that ships with Limner if no `path` is given.

    Raises InputError if the file cannot be read or lacks a section.
    """
    source = path or resources.files("limner").joinpath("domains", "grocery_words.toml")
    try:
        table = tomllib.loads(source.read_text(encoding="utf-8"))
        return Words(
            phrases=table["phrases"],
            types=table["types"],
            within=table["within"],
            words=table["words"],
            noise=tuple(table["noise"]),
            bare=frozenset(table["bare"]),
            acronyms=frozenset(table["acronyms"]),
            loose=frozenset(table["loose"]),
        )
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError) as error:
        raise InputError(
            f"the word table cannot be read: {error}",
            where=str(source),
            mend="see the sections of the table that ships: limner/domains/grocery_words.toml",
        ) from error


_BRACKETS = re.compile(r"\([^()]*(?:\)|$)")
_STRAY = re.compile(r"[()\[\]]")
_JOINT = re.compile(r"\s*(?:[:;,]|-\s|\s-)\s*")
_SLASH = re.compile(r"\s*/\s*")
_TOKEN = re.compile(r"[^\s,&]+|[,&]")


def readable(text: str | None, words: Words) -> str:
    """A category's or department's text in plain words; "" for none.

    >>> words = read_words()
    >>> readable("DRUG GM", words), readable("MEAT-PCKGD", words)
    ('drugstore & household', 'packaged meat')
    >>> readable("FRZN VEGETABLE/VEG DSH", words)
    'frozen vegetables & vegetable dishes'
    """
    return _plain(text, words.phrases, words)


def _plain(text: str | None, known: Mapping[str, str], words: Words) -> str:
    text = " ".join((text or "").split())
    if text in known:
        return known[text]
    rest = text.lower()
    for fragment in words.noise:
        rest = rest.replace(fragment, " ")
    rest = _STRAY.sub(" ", _BRACKETS.sub(" ", rest)).replace("&", " & ")
    parts = [_listed(part, words) for part in _JOINT.split(rest)]
    return ", ".join(dict.fromkeys(part for part in parts if part))


def _listed(text: str, words: Words) -> str:
    """`a/b/c` as "a, b & c", each word spelled out."""
    items = [_spelled(item, words) for item in _SLASH.split(text)]
    items = list(dict.fromkeys(item for item in items if item))
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} & {items[-1]}"


def _spelled(text: str, words: Words) -> str:
    spelled = (words.words.get(token, token) for token in _TOKEN.findall(text))
    tokens = [token for token in spelled if token]
    while tokens and tokens[0] in _LINKS:
        del tokens[0]
    while tokens and tokens[-1] in _LINKS:
        del tokens[-1]
    return " ".join(t.upper() if t.upper() in words.acronyms else t for t in tokens)


_LINKS = frozenset(["&", ",", "-", ".", "and", "or", "with", "of", "the", "for", "incl"])


def kind(type_: str | None, category: str | None, words: Words) -> str:
    """What sort of product it is, by its type and, where the type says too little, its category.

    >>> words = read_words()
    >>> kind("PREMIUM", "ICE CREAM/MILK/SHERBTS", words), kind("ECONOMY", "BACON", words)
    ('premium ice cream', 'economy bacon')
    """
    type_ = " ".join((type_ or "").split())
    category = " ".join((category or "").split())
    there = words.within.get(category, {}).get(type_)
    if there is not None:
        return there
    what = _plain(type_, words.types, words)
    if what and what not in words.bare:
        return what
    group = readable(category, words)
    if not group:
        return what or "product"
    return group if not what or _SAYS_NOTHING.search(what) else f"{group}, {what}"


_SAYS_NOTHING = re.compile(r"^(other|misc|miscellaneous|all|general)\b")


# 3/8 and 5/8 are fractions of an inch only: of ounces, they are packs of 3 and 5
_FRACTION = r"(?:1/[2348]|2/3|3/4|7/8|[35]/8(?= ?in))(?!\d)"
_MIXED = r"[1357]/[248](?!\d)"  # the fraction in 10 3/4
_NUMBER = rf"(?:\d+[ -]{_MIXED}|{_FRACTION}|\d*\.\d+|\d+\.?)"
_SPELLINGS = {
    "oz": "oz ozs z",
    "fl oz": "",
    "ct": "ct count",
    "lb": "lb lbs",
    "ml": "ml mll",
    "in": "in",
    "liter": "l lt lrt ltr",
    "qt": "qt qts",
    "pt": "pt pts",
    "gal": "gal ga galon",
    "pack": "pk pks p",
    "pieces": "pc pcs",
    "stems": "stem stems",
    "loads": "load loads ld lds",
    "sq ft": "",
    "cu ft": "",
    "ft": "ft",
    "yd": "yd yds",
    "cm": "cm",
    "mm": "mm",
    "g": "g gm gr gs",
    "cups": "cup cups cp",
    "dozen": "dz dzn doz",
    "rolls": "roll rolls",
    "sheets": "sheet sheets",
    "uses": "use uses",
    "doses": "dose doses",
    "pads": "pads",
    "strips": "strips",
    "sticks": "sticks",
}
_UNITS = {way: unit for unit, ways in _SPELLINGS.items() for way in (*ways.split(), unit)}
_ONE = {unit: unit.removesuffix("s") for unit in _SPELLINGS if unit.endswith("s")}
_COUNTED = frozenset(
    ["ct", "pack", "pieces", "loads", "rolls", "sheets", "uses", "doses", "cups", "pads", "strips"]
)
_UNIT = "|".join(sorted(_UNITS, key=len, reverse=True))
_SIZE = re.compile(rf"(?P<n>{_NUMBER})[ -]*(?P<unit>{_UNIT})(?![a-z])")
_BETWEEN = rf"(?: ?(?:pk|p) ?[/ ]| ?/| ?-(?!{_MIXED})| (?=\d*\.\d)) ?"
_MANY = re.compile(
    rf"(?<![\d.])(?<!\d[ -])(?!{_FRACTION})(?P<many>\d+){_BETWEEN}"
    rf"(?P<n>{_NUMBER})[ -]*(?P<unit>{_UNIT})(?![a-z])"
)
_RANGE = re.compile(rf"(?P<low>\d+) ?- ?(?P<high>\d+) ?(?P<unit>{_UNIT})(?![a-z])")
_PACKED = frozenset(["oz", "fl oz", "ml", "liter", "pt", "qt", "gal"])  # what packs of several hold
_AREA = re.compile(r"\d ?(?:in|ft|yd)? ?x ?\d")  # width by length: nobody shops by that
_CASE = re.compile(r"\d ?[-/] ?\d+ ?ct")  # fruit in the shop's case, by size
_WHOLE = {
    **dict.fromkeys(["pt"], "1 pt"),
    **dict.fromkeys(["qt"], "1 qt"),
    **dict.fromkeys(["gal"], "1 gal"),
    **dict.fromkeys(["dz", "doz"], "1 dozen"),
    **dict.fromkeys(["half gal", "hlf gal"], "1/2 gal"),
    **dict.fromkeys(["small", "sml"], "small"),
    **dict.fromkeys(["medium", "med", "med."], "medium"),
    **dict.fromkeys(["large", "lg"], "large"),
    **dict.fromkeys(["x-large", "xlg", "x-lg", "xlrg", "xl"], "extra large"),
    **dict.fromkeys(["mini"], "mini"),
    **dict.fromkeys(["king"], "king size"),
    **dict.fromkeys(["queen"], "queen size"),
    **dict.fromkeys(["one size", "onesize"], "one size"),
}
_LARGEST = 1000


def package(size: str | None) -> str:
    """A package size as a label would print it; "" for none and for codes that are no size.

    >>> [package(s) for s in ("32 OZ", "1/2 GAL", "12 PK/12 OZ", "10 3/4 OZ", "P    16 OZ")]
    ['32 oz', '1/2 gal', '12 x 12 oz', '10.75 oz', '16 oz']
    >>> package("523233 CTN"), package("2 L"), package("6 CT/18 OZ")
    ('', '2 liter', '6 ct, 18 oz')
    """
    text = " ".join((size or "").lower().split())
    if text in _WHOLE:
        return _WHOLE[text]
    if _AREA.search(text) or _CASE.search(text):
        return ""
    span = _RANGE.search(text)
    if span is not None and _UNITS[span["unit"]] not in _PACKED:
        low, high = int(span["low"]), int(span["high"])
        return f"{low}-{high} {_UNITS[span['unit']]}" if 0 < low < high < _LARGEST else ""
    many = _MANY.search(text)
    if many is not None and _UNITS[many["unit"]] in _PACKED:
        count, amount = int(many["many"]), _amount(many["n"], many["unit"])
        if 1 < count < _LARGEST and amount:
            return f"{count} x {amount}"
    return _amounts(text)


def _amounts(text: str) -> str:
    """The first amount in a size, and how many there are of it if it says so."""
    found = [(_UNITS[m["unit"]], _amount(m["n"], m["unit"])) for m in _SIZE.finditer(text)]
    found = [(unit, amount) for unit, amount in found if amount][:2]
    counts = [amount for unit, amount in found if unit in _COUNTED]
    others = [amount for unit, amount in found if unit not in _COUNTED]
    if [unit for unit, _ in found] == ["lb", "oz"] and "(" not in text:
        return " ".join(others)
    if not counts or not others:
        return "".join((counts + others)[:1])
    if counts[0].endswith(" pack"):
        return f"{counts[0].removesuffix(' pack')} x {others[0]}"
    return f"{counts[0]}, {others[0]}"


def _amount(number: str, unit: str) -> str:
    """One amount; "" if it is out of range or says no more than the product's name does."""
    name = _UNITS[unit]
    if "/" in number and not re.search(r"[ -]", number):
        return f"{number} {name}"
    whole, _, fraction = number.replace("-", " ").partition(" ")
    value = float(whole)
    if fraction:
        above, _, below = fraction.partition("/")
        value += int(above) / int(below)
    if not 0 < value < _LARGEST or (name == "ml" and value < 1):
        return ""
    if value == 1:
        return "" if name in ("ct", "pack", "pieces") else f"1 {_ONE.get(name, name)}"
    return f"{value:g} {name}"


def title(
    type_: str | None, category: str | None, size: str | None, brand: str | None, words: Words
) -> str:
    """A product's name on a shopping list: what it is, how much, and whose brand.

    Only the store's own brand ("Private") is named; there is no name to give for the others.
    At most `LONGEST` characters: the size goes first, then words from the end.

    >>> words = read_words()
    >>> title("YOGURT NOT MULTI-PACKS", "YOGURT", "32 OZ", "Private", words)
    'yogurt, 32 oz, store brand'
    >>> title("FLUID MILK WHITE ONLY", "FLUID MILK PRODUCTS", "1 GA", "National", words)
    'white milk, 1 gal'
    """
    return _joined(kind(type_, category, words), _bought(size, category, words), brand)


_BAG = 10  # pounds or pieces


def _bought(size: str | None, category: str | None, words: Words) -> str:
    """The package size, unless it is the case that a shop gets."""
    text = package(size)
    case = re.search(r"([\d.]+) (?:lb|ct)$", text)
    if case is None or " ".join((category or "").split()) not in words.loose:
        return text
    return text if float(case[1]) <= _BAG else ""


def _joined(what: str, size: str, brand: str | None) -> str:
    own = ", store brand" if brand == "Private" else ""
    sized = f"{what}, {size}" if size else what
    for name in (sized, what):
        if len(name) + len(own) <= LONGEST:
            return name + own
    short = what[: LONGEST - len(own) + 1].rpartition(" ")[0].rstrip(" ,&")
    return short + own


def titles(
    types: pa.Array, categories: pa.Array, sizes: pa.Array, brands: pa.Array, words: Words
) -> pa.Array:
    """`title` of each row, as strings; the work is done once for each different row."""
    what, much = kinds(types, categories, words), packages(sizes, categories, words)
    return _by_unique([what, pc.fill_null(much, ""), brands], _joined)


def kinds(types: pa.Array, categories: pa.Array, words: Words) -> pa.Array:
    """`kind` of each row, as strings."""
    return _by_unique([types, categories], lambda t, c: kind(t, c, words))


def packages(sizes: pa.Array, categories: pa.Array, words: Words) -> pa.Array:
    """The size that `title` gives of each row, as strings; null where it gives none."""
    return _by_unique([sizes, categories], lambda s, c: _bought(s, c, words) or None)


def readables(texts: pa.Array, words: Words) -> pa.Array:
    """`readable` of each row, as strings; null where there is no text."""
    return _by_unique([texts], lambda text: readable(text, words) or None)


def _by_unique(columns: list[pa.Array], make: Callable[..., str | None]) -> pa.Array:
    """`make(*row)` of each row of text columns, called once for each different row."""
    row: I64 = np.zeros(len(columns[0]), dtype=np.int64)
    first = row
    for column in columns:
        encoded = pc.dictionary_encode(column, null_encoding="encode")
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks()
        codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        both = row * len(encoded.dictionary) + codes
        _, first, row = np.unique(both, return_index=True, return_inverse=True)
    unique = [column.take(pa.array(first)).to_pylist() for column in columns]
    made = pa.array([make(*texts) for texts in zip(*unique, strict=True)], pa.string())
    return made.take(pa.array(row))
