"""A shop that never was: seeded, realistic events of any number, in order of time.

What is realistic about it: users and items are used as unevenly as real ones (Zipf–Mandelbrot);
events come in sessions, in which a purchase follows an item put in the cart; the hours, the days
of the week and the seasons of the year differ in how busy they are and in what is bought; and
each user's interests drift. Since the interests are known (`interests`), what a portrait says
can be held against the truth.

    shop = Shop(events=1_000_000, users=100_000)
    pq.write_table(items(shop), "items.parquet")
    write(shop, "events.parquet")

Everything follows from the fields of `Shop`: the same fields give the same bytes. Users and items
are numbered from 0; their ids are `user_name` and `item_name` of the number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from limner.errors import ConfigError
from limner.events.batch import DAY, F64, I64, SECOND, EventBatch
from limner.events.once import U64
from limner.events.raw import RawBatch
from limner.sources import files

YEAR = 365.25 * DAY
TYPES = ("impression", "view", "click", "add_to_cart", "purchase", "bookmark", "rating", "refund")
"""The event types; `_SHARES` says how often each is drawn."""

_SHARES = (0.10, 0.529, 0.14, 0.12, 0.06, 0.03, 0.02, 0.001)
_CART, _PURCHASE, _RATING, _REFUND = (
    TYPES.index(name) for name in ("add_to_cart", "purchase", "rating", "refund")
)
_FOLLOWS = np.isin(np.arange(len(TYPES)), (_CART, _PURCHASE, _RATING, _REFUND))
"""Types that are about the item of the event before, within a session."""
_CART_SELLS = 0.45  # how often what was put in the cart is bought next
_RANKS = (0.6, 0.3, 0.1)
"""How a user's interest is shared between three categories at any one time."""
_CHUNK = 25_000  # sessions; part of what a seed means
_HOURS = np.array(
    [2, 1, 1, 1, 1, 2, 4, 7, 9, 10, 11, 12, 13, 12, 11, 11, 12, 13, 15, 18, 20, 17, 10, 5], float
)
_WEEKDAYS = np.array([1.0, 0.95, 0.95, 1.0, 1.15, 1.4, 1.3])  # from Monday
_AGES = ("18-24", "25-34", "35-44", "45-54", "55-64", "65+")
_REGIONS = ("north", "east", "south", "west", "abroad")


@dataclass(frozen=True, slots=True)
class Shop:
    """What a synthetic shop is like.

    `events`, `users` and `items` are numbers of rows; every user comes at least once if there
    are sessions enough. The share of the user or item of rank r is proportional to
    (r + shift) ** -exponent, the shift being a thousandth of their number for users (so that no
    user is a robot) and 2 within each of the `categories` for items. Interests: a share of
    `loyalty` of each never changes; the rest moves from one taste to the next over
    `drift_days` (a user's own pace is 0.5 to 1.5 times that). `season` is the share of sessions
    that are about what is in season rather than what the user likes. Times are µs, UTC.

    Raises ConfigError for sizes below 1 and shares outside 0 to 1.
    """

    events: int = 10_000_000
    users: int = 1_000_000
    items: int = 50_000
    categories: int = 60
    seed: int = 0
    start: int = 1_672_531_200 * SECOND  # 2023-01-01
    days: int = 365
    session_events: float = 4.0
    user_exponent: float = 1.0
    item_exponent: float = 1.0
    loyalty: float = 0.4
    drift_days: float = 60.0
    season: float = 0.1

    def __post_init__(self) -> None:
        for name in ("events", "users", "items", "categories", "days", "session_events"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}", mend="make it at least 1")
        for name in ("loyalty", "season"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}", mend="make it 0 to 1")
        if self.drift_days <= 0:
            raise ConfigError(f"drift_days is {self.drift_days}", mend="make it above 0")
        if self.items < self.categories:
            raise ConfigError("there are fewer items than categories", mend="make fewer categories")


def user_name(number: int) -> str:
    """The id of a user."""
    return f"u{number}"


def item_name(number: int) -> str:
    """The id of an item."""
    return f"i{number}"


def items(shop: Shop) -> pa.Table:
    """The items: `item_id, title, type, category, department, brand, price`."""
    number = np.arange(shop.items)
    category = category_of(shop, number)
    kind = category * 8 + _below(8, shop.seed, 21, number)
    brand = _zipf(_uniform(shop.seed, 22, number), np.full(shop.items, 200), 1.0, 5.0)
    kinds = _named("kind ", kind)
    brands = pc.if_else(pa.array(brand == 0), "store brand", _named("brand ", brand))
    return pa.table(
        {
            "item_id": _named("i", number),
            "title": pc.binary_join_element_wise(brands, kinds, _named("no. ", number), " "),
            "type": kinds,
            "category": _named("category ", category),
            "department": _named("department ", category // 6),
            "brand": brands,
            "price": price_of(shop, number),
        }
    )


def users(shop: Shop) -> pa.Table:
    """What users declared: `user_id, age, region`; three in ten declared nothing of each."""
    number = np.arange(shop.users)
    return pa.table(
        {
            "user_id": _named("u", number),
            "age": _declared(_AGES, shop.seed, 31, number),
            "region": _declared(_REGIONS, shop.seed, 32, number),
        }
    )


def category_of(shop: Shop, item: I64) -> I64:
    """Items → their category. Item n is the n // categories-th best of category n % categories."""
    return item % shop.categories


def price_of(shop: Shop, item: I64) -> F64:
    """Items → their price: log-normal about the level of their category, in whole cents."""
    level = 1.0 + 2.5 * _uniform(shop.seed, 24, category_of(shop, item))
    a, b = _uniform(shop.seed, 25, item), _uniform(shop.seed, 26, item)
    normal = np.sqrt(-2 * np.log1p(-a)) * np.cos(2 * np.pi * b)  # Box and Muller, 1958
    prices: F64 = np.maximum(np.round(np.exp(level + 0.5 * normal), 2), 0.05)
    return prices


def interests(shop: Shop, user: I64, time: I64) -> F64:
    """The truth: what each user is interested in at a time (µs).

    A row for each pair of `user` and `time`, a column for each category; rows sum to 1.
    """
    out = np.zeros((len(user), shop.categories))
    rows = np.arange(len(user))
    epoch, moved = _epoch(shop, user, time)
    for taste, share in (
        (np.full(len(user), -1), np.full(len(user), shop.loyalty)),
        (epoch, (1 - shop.loyalty) * (1 - moved)),
        (epoch + 1, (1 - shop.loyalty) * moved),
    ):
        for place, weight in enumerate(_RANKS):
            np.add.at(out, (rows, _taste(shop, user, taste, np.full(len(user), place))),
                      share * weight)  # fmt: skip
    return out


def events(shop: Shop) -> Iterator[pa.Table]:
    """The events in order of time, some 100,000 at once.

    Columns `user_id, item_id, event_type, timestamp, value, quantity, group_id` (the session)
    and `properties.discount, properties.coupon_discount` (money, of purchases), as
    `completejourney.purchases` has them.
    """
    return map(_table, _numbered(shop))


def raw(shop: Shop, *, source: str = "synthetic") -> Iterator[RawBatch]:
    """The events as a source delivers them."""
    for table in events(shop):
        yield from files.read_table(table, kind="events", source=source, where=source)


def batches(shop: Shop) -> Iterator[EventBatch]:
    """The events as the log takes them, without admission; for measuring what comes after it.

    A user's pseudonym is that of `pseudonyms`.
    """
    row = 0
    for part in _numbered(shop):
        number, codes = np.unique(part["user"], return_inverse=True)
        place = np.arange(row, row + len(codes))
        row += len(codes)
        digest = np.stack([_mix(shop.seed, 41, place), _mix(shop.seed, 42, place)], axis=1)
        table = _table(part)
        columns = {name: _chunk(table[name]) for name in table.column_names}
        for name in ("item_id", "event_type", "group_id"):
            columns[name] = columns[name].dictionary_encode()
        columns["user_id"] = pa.DictionaryArray.from_arrays(
            pa.array(codes.astype(np.int32)), pa.array(pseudonyms(number), pa.binary(16))
        )
        columns["timestamp"] = pa.array(part["time"])
        columns["digest"] = pa.Array.from_buffers(
            pa.binary(16), len(codes), [None, pa.py_buffer(digest)]
        )
        columns["check"] = pa.array(_mix(shop.seed, 43, place))
        yield EventBatch(pa.table(columns))


def pseudonyms(user: I64) -> list[bytes]:
    """16 bytes for each user's number, spread as real pseudonyms are."""
    packed = np.stack([_mix(1, user), _mix(2, user)], axis=1).tobytes()
    return [packed[place : place + 16] for place in range(0, len(packed), 16)]


def write(shop: Shop, path: str | Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Write the events to a Parquet file; `progress` is told (rows done, all rows)."""
    writer, done = None, 0
    try:
        for table in events(shop):
            writer = writer or pq.ParquetWriter(str(path), table.schema, compression="lz4")
            writer.write_table(table)
            done += len(table)
            if progress is not None:
                progress(done, shop.events)
    finally:
        if writer is not None:
            writer.close()


Part = dict[str, npt.NDArray[Any]]
"""Events as numbers, a column each."""


def _numbered(shop: Shop) -> Iterator[Part]:
    """The events as numbers, in order of time.

    Sessions are laid out first, in order of their start; then the events of a few thousand
    sessions at once, of which those after the next sessions' start wait for them.
    """
    user, begin, length = _sessions(shop)
    waiting: list[Part] = []
    for chunk, first in enumerate(range(0, len(user), _CHUNK)):
        part = slice(first, first + _CHUNK)
        generator = np.random.default_rng([shop.seed, 1, chunk])
        waiting.append(_visits(shop, generator, first, user[part], begin[part], length[part]))
        whole = {name: np.concatenate([one[name] for one in waiting]) for name in waiting[0]}
        order = np.argsort(whole["time"], kind="stable")
        last = first + _CHUNK >= len(user)
        done = len(order) if last else np.searchsorted(whole["time"][order], begin[first + _CHUNK])
        yield {name: column[order[:done]] for name, column in whole.items()}
        waiting = [{name: column[order[done:]] for name, column in whole.items()}]


def _sessions(shop: Shop) -> tuple[I64, I64, I64]:
    """(user, start, number of events) of each session, in order of start."""
    generator = np.random.default_rng([shop.seed, 0])
    room = int(shop.events / shop.session_events * 1.02) + 1000
    while True:
        length = generator.geometric(1 / shop.session_events, room)
        ends = np.cumsum(length)
        if ends[-1] >= shop.events:
            break
        room *= 2
    n = int(np.searchsorted(ends, shop.events)) + 1
    length = length[:n]
    length[-1] -= ends[n - 1] - shop.events
    number = generator.permutation(shop.users)  # so that a user's number says nothing
    again = max(n - shop.users, 0) if n >= shop.users else n
    rank = _zipf(
        generator.random(again),
        np.full(again, shop.users),
        shop.user_exponent,
        shop.users / 1000,
    )
    user = number[rank]
    if again < n:
        user = generator.permutation(np.concatenate([np.arange(shop.users), user]))
    return user, _moments(shop, np.sort(generator.random(n))), length


def _moments(shop: Shop, share: F64) -> I64:
    """Shares of all sessions that came before → the time, by how busy each hour is."""
    hours = shop.start + np.arange(shop.days * 24) * 3600 * SECOND
    of_day = hours // (3600 * SECOND) % 24
    weekday = (hours // DAY + 3) % 7  # 1970 began on a Thursday
    year = 1 + 0.15 * np.cos(2 * np.pi * (hours / YEAR - 0.93))  # most before the year's end
    busy = np.append(0.0, np.cumsum(_HOURS[of_day] * _WEEKDAYS[weekday] * year))
    edges = np.append(hours, hours[-1] + 3600 * SECOND) - shop.start
    since = np.interp(share, busy / busy[-1], edges)
    times: I64 = shop.start + since.astype(np.int64)
    return times


def _visits(
    shop: Shop,
    generator: np.random.Generator,
    first: int,
    user: I64,
    begin: I64,
    length: I64,
) -> Part:
    """The events of these sessions, the first of which is session `first`."""
    n = int(length.sum())
    session = np.repeat(np.arange(len(user)), length)
    opens = np.zeros(n, bool)
    opens[np.cumsum(length) - length] = True
    gap = np.where(opens, 0, generator.exponential(45.0, n) * SECOND).astype(np.int64)
    since = np.cumsum(gap)
    since -= since[opens][session]
    kind = np.searchsorted(np.cumsum(_SHARES), generator.random(n) * (1 - 1e-12))
    sells = np.append(False, kind[:-1] == _CART) & ~opens & (generator.random(n) < _CART_SELLS)
    kind[sells] = _PURCHASE
    category = _categories(shop, generator, user, begin)
    strays = generator.random(n) < 0.15  # looked at by the way
    about = np.where(strays, _zipf_category(shop, generator.random(n)), category[session])
    rows = (shop.items - 1 - about) // shop.categories + 1
    rank = _zipf(generator.random(n), rows, shop.item_exponent, 2.0)
    item = rank * shop.categories + about
    # what follows is about the item of the last event that does not
    leads = np.where(_FOLLOWS[kind] & ~opens, 0, np.arange(n))
    item = item[np.maximum.accumulate(leads)]
    quantity = np.minimum(generator.geometric(0.75, n), 12).astype(np.float64)
    price = price_of(shop, item) * quantity
    sold = (kind == _PURCHASE) | (kind == _REFUND)
    off = np.where(
        generator.random(n) < 0.25, np.round(price * generator.uniform(0.05, 0.4, n), 2), 0
    )
    coupon = np.where(generator.random(n) < 0.1, off, 0)
    liked = 1 + np.minimum(np.floor(generator.beta(4, 1.5, n) * 5), 4)
    value = np.where(sold, np.round(price - off, 2), np.where(kind == _RATING, liked, np.nan))
    return {
        "user": user[session],
        "item": item,
        "type": kind,
        "time": begin[session] + since,
        "session": session + first,
        "value": value,
        "quantity": quantity,
        "discount": off,
        "coupon": coupon,
    }


def _categories(shop: Shop, generator: np.random.Generator, user: I64, time: I64) -> I64:
    """What each session is about: drawn from `interests`, or from what is in season."""
    n = len(user)
    epoch, moved = _epoch(shop, user, time)
    epoch = epoch + (generator.random(n) < moved)
    epoch[generator.random(n) < shop.loyalty] = -1
    place = np.searchsorted(np.cumsum(_RANKS), generator.random(n) * (1 - 1e-12))
    out = _taste(shop, user, epoch, place)
    seasonal = np.flatnonzero(generator.random(n) < shop.season)
    middle = (time[seasonal] / YEAR) % 1 * shop.categories
    spread = generator.normal(0, shop.categories / 20, len(seasonal))
    out[seasonal] = np.floor(middle + spread).astype(np.int64) % shop.categories
    return out


def _epoch(shop: Shop, user: I64, time: I64) -> tuple[I64, F64]:
    """(number of the user's present taste, share that has moved on to the next)."""
    pace = shop.drift_days * DAY * (0.5 + _uniform(shop.seed, 11, user))
    at = (time - shop.start) / pace + _uniform(shop.seed, 12, user)
    epoch = np.floor(at)
    return epoch.astype(np.int64), at - epoch


def _taste(shop: Shop, user: I64, epoch: I64, place: I64) -> I64:
    """The category at each place (0: the first) of a user's taste of an epoch, −1 the lasting."""
    return _zipf_category(shop, _uniform(shop.seed, 13, user, epoch, place))


def _zipf_category(shop: Shop, share: F64) -> I64:
    return _zipf(share, np.full(len(share), shop.categories), 0.8, 3.0)


def _zipf(share: F64, n: I64, exponent: float, shift: float) -> I64:
    """Uniform shares → ranks 0 to n − 1 with density (rank + shift) ** -exponent.

    By inverting the integral, so that it costs the same for any n.
    """
    low, high = np.full(len(n), float(shift)), n + shift
    if exponent == 1:
        at = low * (high / low) ** share
    else:
        power = 1 - exponent
        at = (low**power + share * (high**power - low**power)) ** (1 / power)
    ranks: I64 = np.minimum((at - shift).astype(np.int64), n - 1)
    return ranks


def _mix(seed: int, *parts: Any) -> U64:
    """64 well-mixed bits of numbers: the finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    state = np.asarray(seed & 0xFFFFFFFF, np.uint64)
    with np.errstate(over="ignore"):
        for part in parts:
            state = (state + np.asarray(part).astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
            state = state + np.uint64(0x632BE59BD9B4E019)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return state


def _uniform(seed: int, *parts: Any) -> F64:
    """A number from 0 to 1 that is always the same for the same parts."""
    out: F64 = (_mix(seed, *parts) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return out


def _below(n: int, seed: int, *parts: Any) -> I64:
    out: I64 = (_uniform(seed, *parts) * n).astype(np.int64)
    return out


def _table(part: Part) -> pa.Table:
    sold = (part["type"] == _PURCHASE) | (part["type"] == _REFUND)
    return pa.table(
        {
            "user_id": _named("u", part["user"]),
            "item_id": _named("i", part["item"]),
            "event_type": pa.array(TYPES).take(pa.array(part["type"])),
            "timestamp": pa.array(part["time"]).cast(pa.timestamp("us", tz="UTC")),
            "value": pa.array(part["value"], mask=np.isnan(part["value"])),
            "quantity": pa.array(part["quantity"], mask=~sold),
            "group_id": _named("s", part["session"]),
            "properties.discount": pa.array(part["discount"], mask=~sold),
            "properties.coupon_discount": pa.array(part["coupon"], mask=~sold),
        }
    )


def _named(prefix: str, number: I64) -> pa.Array:
    return pc.binary_join_element_wise(prefix, pa.array(number).cast(pa.string()), "")


def _declared(words: tuple[str, ...], seed: int, what: int, number: I64) -> pa.Array:
    known = pa.array(words).take(pa.array(_below(len(words), seed, what, number)))
    return pc.if_else(pa.array(_uniform(seed, what, number, 1) < 0.7), known, None)


def _chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
