"""What a file seems to mean where its names do not tell: columns, time formats, event types."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limner.events.timestamps import to_micros
from limner.events.vocabulary import TYPES, canonical, known_names
from limner.sources.names import fold

TIME_FORMATS = tuple(
    date + clock
    for date in (
        "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y", "%m/%d/%y",
        "%d %b %Y", "%b %d, %Y", "%Y年%m月%d日",
    )
    for clock in (" %H:%M:%S", " %H:%M", "")
)  # fmt: skip
"""Ways to write times that are no ISO form, asked in this order."""

_HINTS = {
    "user_id": (
        "user", "cust", "member", "buyer", "client", "visitor", "account", "who", "person",
        "household", "subscriber", "student", "patient", "用户",
    ),
    "item_id": (
        "item", "prod", "article", "sku", "goods", "what", "movie", "song", "book", "course",
        "offer", "content", "asset", "商品",
    ),
    "timestamp": ("time", "date", "day", "when", "at", "ts", "时间"),
}  # fmt: skip
"""Parts of names that tell a field, the surest first."""


def guess_columns(
    sample: Mapping[str, pa.Array], lacking: Sequence[str], *, now: int
) -> dict[str, str]:
    """Field → the column that seems to be it, for those of `lacking` that one can be found for.

    `sample` holds the first values of each column, as text. A time is told by its values, a user
    or an item by a part of the column's name.
    """
    found: dict[str, str] = {}
    for field in ("timestamp", "user_id", "item_id"):
        if field not in lacking:
            continue
        free = [name for name in sample if name not in found.values()]
        if field == "timestamp":
            free = [name for name in free if _are_times(sample[name], now)]
        ranked = [n for hint in _HINTS[field] for n in free if hint in fold(n)]
        if field == "timestamp":
            ranked += free
        if ranked:
            found[field] = ranked[0]
    return found


def guess_time_format(texts: Sequence[str]) -> str | None:
    """The only way of `TIME_FORMATS` in which all texts can be read; None if none or two can.

    >>> guess_time_format(["31/01/2024 10:20", "01/02/2024 08:00"])
    '%d/%m/%Y %H:%M'
    >>> guess_time_format(["01/02/2024"]) is None
    True
    """
    fitting = _fitting(texts)
    return fitting[0] if len(fitting) == 1 else None


def _fitting(texts: Sequence[str]) -> list[str]:
    return [form for form in TIME_FORMATS if texts and all(_reads(text, form) for text in texts)]


def guess_event_type(sample: Mapping[str, pa.Array]) -> str | None:
    """The column whose few values are names of event types, or nearly."""
    for name, values in sample.items():
        texts = [text for text in pc.unique(values).to_pylist() if text and text.strip()]
        if 0 < len(texts) <= 50:
            near = [t for t in texts if canonical(t) in TYPES or near_type(t) is not None]
            if len(near) > len(texts) / 2:
                return name
    return None


def near_type(name: str) -> str | None:
    """The event type that an unknown name seems to mean.

    >>> near_type("purchse"), near_type("produkt_view_item"), near_type("zzz")
    ('purchase', 'view', None)
    """
    names = known_names()
    near = get_close_matches(fold(name), names, 1, 0.75)
    if near:
        return canonical(near[0])
    words = set(name.casefold().replace("-", "_").replace(" ", "_").split("_"))
    for word in sorted(words, key=len, reverse=True):
        if canonical(word) in TYPES:
            return canonical(word)
    return None


def settings_text(
    aliases: Mapping[str, str], time_format: str | None, *, where: str, command: str
) -> str:
    """A limner.toml that reads a file as it was suggested, as text."""
    lines = [f"# Suggested for {where}; import it with:", f"#   {command}", 'domain = "ecommerce"']
    if aliases or time_format:
        lines += ["", "[clean]"]
    if time_format:
        lines.append(f"time_format = {_toml(time_format)}")
    if aliases:
        inner = ", ".join(f"{_toml(name)} = {_toml(kind)}" for name, kind in aliases.items())
        lines.append(f"aliases = {{ {inner} }}")
    return "\n".join(lines) + "\n"


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _reads(text: str, form: str) -> bool:
    try:
        datetime.strptime(text.strip(), form)
    except ValueError:
        return False
    return True


def _are_times(values: pa.Array, now: int) -> bool:
    """Whether nearly all of these texts are times from 1990 to a day from now."""
    texts = values.drop_null()
    if not len(texts):
        return False
    times = to_micros(texts)
    possible = (times.micros > 631_152_000_000_000) & (times.micros < now + 86_400_000_000)
    if bool(np.mean(possible & ~times.unreadable) > 0.9):
        return True
    return bool(_fitting([text for text in texts[:200].to_pylist() if text.strip()]))
