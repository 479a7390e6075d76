from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from limner.errors import ConfigError
from limner.events.batch import DAY, PROPERTY, SCHEMA
from limner.events.clean import Cleaned, clean
from limner.events.norms import Norms
from limner.events.raw import DELETE_ITEM, ITEM, USER, RawBatch
from limner.events.rules import BITS, RULES, CleanConfig

NOW = 1_706_700_000_000_000
USER_ID = bytes(range(16))
GOOD = {
    "user_id": USER_ID,
    "item_id": "tea",
    "event_type": "Order Completed",
    "timestamp": "2024-01-31 10:20:30",
    "value": "3.5",
    "quantity": "2",
}


def raw(*rows: dict[str, Any], source: str = "shop") -> RawBatch:
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: pa.array([row.get(name) for row in rows]) for name in names}
    columns["line"] = pa.array(np.arange(2, 2 + len(rows), dtype=np.int64))
    if "check" in names:
        columns["check"] = columns["check"].cast(pa.uint64())
    return RawBatch(pa.table(columns), "shop.csv", source)


def cleaned(*rows: dict[str, Any], **config: Any) -> Cleaned:
    return clean(raw(*rows), now=NOW, config=CleanConfig(**config), norms=Norms())


def rule(**changes: Any) -> str | None:
    """The rule that refuses a good row with these changes, or None if it is kept."""
    out = cleaned({**GOOD, **changes})
    assert len(out.batch) + len(out.refused) == 1
    return out.refused[0].rule if out.refused else None


def test_a_good_row_gets_the_types_of_the_schema() -> None:
    out = cleaned(GOOD)
    assert out.refused == [] and not out.found
    assert out.batch.table.schema.names == SCHEMA.names
    assert [f.type for f in out.batch.table.schema] == [f.type for f in SCHEMA]
    [row] = out.batch.to_pylist()
    assert {k: v for k, v in row.items() if v is not None} == {
        "user_id": USER_ID, "item_id": "tea", "event_type": "purchase",
        "timestamp": 1_706_696_430_000_000, "received_at": NOW, "source": "shop",
        "value": 3.5, "unit": "money", "quantity": 2.0, "flags": 0, "import_id": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, None),
        ({"user_id": None}, "missing_user"),
        ({"event_type": None}, "missing_type"),
        ({"event_type": " "}, "missing_type"),
        ({"item_id": None}, "missing_item"),
        ({"item_id": ""}, "missing_item"),
        ({"item_id": None, "event_type": "search"}, None),
        ({"item_id": None, "event_type": "level up"}, None),
        ({"timestamp": None}, "missing_time"),
        ({"timestamp": "soon"}, "bad_time"),
        ({"timestamp": "03/04/2024"}, "bad_time"),
        ({"timestamp": "1989-12-31"}, "impossible_time"),
        ({"timestamp": "2024-02-02"}, "impossible_time"),
        ({"timestamp": "2024-01-31 23:00"}, None),
        ({"value": "3,5"}, "bad_number"),
        ({"value": "inf"}, "bad_number"),
        ({"quantity": "two"}, "bad_number"),
        ({"value": "n/a", "quantity": None}, None),
        ({"quantity": "-1"}, "negative_quantity"),
        ({"quantity": "-1", "event_type": "refund"}, None),
        ({"quantity": "0", "value": "0"}, "no_quantity_no_value"),
        ({"quantity": "0", "value": None}, "no_quantity_no_value"),
        ({"quantity": "0", "value": "2.5"}, None),
        ({"quantity": "1", "value": "0"}, None),
        ({"quantity": None, "value": "0"}, None),
        ({"quantity": "0", "value": "0", "event_type": "add_to_cart"}, None),
        ({"value": "-2"}, None),
    ],
)
def test_each_rule(changes: dict[str, Any], wanted: str | None) -> None:
    assert rule(**changes) == wanted


def test_every_refusing_rule_says_why_and_how_to_mend() -> None:
    for name, said in RULES.items():
        assert said.reason and said.version == (2 if name == "impossible_amount" else 1), name
        assert bool(said.mend) == (not said.bit), name


def test_a_refusal_names_place_reason_and_mend_and_keeps_the_row() -> None:
    out = cleaned(GOOD, {**GOOD, "timestamp": "03/04/2024", "properties.shop": "north"})
    [refusal] = out.refused
    assert (refusal.where, refusal.line, refusal.rule) == ("shop.csv", 3, "bad_time")
    assert refusal.reason == (
        "the time '03/04/2024' cannot be read, since it may be day/month or month/day; "
        "to mend it: say how it is written: --time-format '%d/%m/%Y %H:%M'"
    )
    assert refusal.row == {
        **GOOD, "user_id": USER_ID.hex(), "timestamp": "03/04/2024", "properties.shop": "north",
        "source": "shop",
    }  # fmt: skip
    assert dict(out.found) == {"bad_time": 1}


def test_the_first_rule_that_objects_decides() -> None:
    assert rule(event_type=None, user_id=None, timestamp="soon") == "missing_type"


def test_a_refused_user_leaves_no_trace_in_the_batch() -> None:
    other = bytes(16)
    out = cleaned(GOOD, {**GOOD, "user_id": other, "timestamp": None})
    assert out.batch.array("user_id").dictionary.to_pylist() == [USER_ID]


def test_time_bounds_zone_and_format_come_from_the_config() -> None:
    late = {**GOOD, "timestamp": "2146-07-21"}
    assert len(cleaned(late, ahead=200 * 366 * DAY).batch) == 1
    assert len(cleaned({**GOOD, "timestamp": "1970-01-02"}, earliest=0).batch) == 1
    day = {**GOOD, "timestamp": "30/01/2024"}
    out = cleaned(day, time_format="%d/%m/%Y", tz="Asia/Shanghai")
    assert out.batch.times().tolist() == [1_706_544_000_000_000]


def test_unknown_types_are_kept_and_counted_unless_mapped() -> None:
    row = {**GOOD, "event_type": "Level up"}
    out = cleaned(row, GOOD)
    assert out.batch.codes("event_type")[1] == ["Level up", "purchase"]
    assert dict(out.found) == {"unknown_type": 1}
    assert not cleaned(row, aliases={"level_up": "complete"}).found


def test_reserved_types_need_no_time_and_only_their_own_id() -> None:
    out = cleaned(
        {"event_type": ITEM, "item_id": "tea", "properties.brand": "Ceylon"},
        {"event_type": DELETE_ITEM, "item_id": "tea", "timestamp": "2024-01-01"},
        {"event_type": USER, "user_id": USER_ID},
        {"event_type": ITEM},
        {"event_type": USER},
    )
    assert out.batch.times().tolist() == [0, 1_704_067_200_000_000, 0]
    assert [refusal.rule for refusal in out.refused] == ["missing_item", "missing_user"]


def test_identical_lines_are_refused_but_for_purchases_and_ids() -> None:
    view = {**GOOD, "event_type": "view", "check": 7}
    out = cleaned(view, view, {**view, "check": 8})
    assert [refusal.line for refusal in out.refused] == [3]
    assert out.refused[0].rule == "duplicate_line"
    bought = {**GOOD, "check": 7}
    assert not cleaned(bought, bought).refused
    assert cleaned(bought, bought, keep_identical=()).refused
    known = {**view, "event_id": "e1"}
    assert not cleaned(known, known).refused


def test_units_follow_the_type_unless_given() -> None:
    rate = {**GOOD, "event_type": "rating"}
    out = cleaned(rate, {**rate, "unit": "share"}, {**rate, "value": None}, {**GOOD, "unit": None})
    assert out.batch.array("unit").to_pylist() == ["stars", "share", None, "money"]


def test_property_types() -> None:
    row = {
        PROPERTY + "n": 1.5, PROPERTY + "i": 3, PROPERTY + "b": True, PROPERTY + "t": "red",
        PROPERTY + "l": ["a", "b"], PROPERTY + "z": None,
    }  # fmt: skip
    out = cleaned({**GOOD, **row})
    types = {n: out.batch.array(PROPERTY + n).type for n in out.batch.properties}
    assert types == {
        "n": pa.float64(), "i": pa.int64(), "b": pa.bool_(), "l": pa.list_(pa.string()),
        "t": pa.dictionary(pa.int32(), pa.string()), "z": pa.null(),
    }  # fmt: skip


def many(quantity: float, n: int, item: str = "tea") -> list[dict[str, Any]]:
    return [{**GOOD, "item_id": item, "quantity": quantity} for _ in range(n)]


def test_outliers_are_flagged_within_their_group_by_what_came_before() -> None:
    norms = Norms()

    def kinds(items: list[str]) -> Any:
        return np.array([{"tea": 0, "fuel": 1}.get(item, -1) for item in items], dtype=np.int32)

    def run(rows: list[dict[str, Any]]) -> Cleaned:
        out = clean(raw(*rows), now=NOW, config=CleanConfig(), norms=norms, kinds=kinds)
        norms.observe(0, out.batch, kinds)
        return out

    first = run(many(1, 60) + many(12_000, 60, "fuel") + many(900, 1))
    assert not first.batch.array("flags").to_numpy().any()
    second = run(
        [*many(900, 1), *many(12_000, 1, "fuel"), {**GOOD, "value": "3000", "quantity": 1}]
    )
    assert second.batch.array("flags").to_pylist() == [
        BITS["outlier_quantity"], 0, BITS["outlier_value"],
    ]  # fmt: skip
    assert dict(second.found) == {"outlier_quantity": 1, "outlier_value": 1}
    touched = norms.touched()
    assert (touched["outlier_value"].n, touched["outlier_value"].position) == (1, 2)
    assert touched["outlier_value"].last == NOW
    off = CleanConfig(off=("outlier_value", "outlier_quantity"))
    assert not clean(raw(*many(900, 2)), now=NOW, config=off, norms=norms, kinds=kinds).found


def test_an_empty_batch() -> None:
    table = pa.table({"line": pa.array([], pa.int64()), "user_id": pa.array([], pa.binary(16))})
    batch = RawBatch(table, "x", "x")
    out = clean(batch, now=NOW, config=CleanConfig(), norms=Norms())
    assert len(out.batch) == 0 and out.refused == []


# units and missing values


def one(row: dict[str, Any], prices: Any = None, **config: Any) -> dict[str, Any]:
    """A single row after cleaning, with the names of its flags."""
    out = clean(raw(row), now=NOW, config=CleanConfig(**config), norms=Norms(), prices=prices)
    [kept] = out.batch.to_pylist()
    kept["flags"] = {rule for rule, bit in BITS.items() if kept["flags"] & bit}
    return kept


@pytest.mark.parametrize(
    ("kind", "unit", "value", "wanted", "kept_in"),
    [
        ("purchase", "cents", 350, 3.5, "money"),
        ("purchase", "Pence", 350, 3.5, "money"),
        ("play", "ms", 1500, 1.5, "seconds"),
        ("play", "minutes", 2, 120.0, "seconds"),
        ("complete", "percent", 85, 0.85, "share"),
        ("complete", "%", 85, 0.85, "share"),
        ("purchase", "EUR", 3.5, 3.5, "EUR"),
        ("complete", "share", 0.85, 0.85, "share"),
    ],
)
def test_a_value_is_kept_in_the_unit_of_its_measure(
    kind: str, unit: str, value: float, wanted: float, kept_in: str
) -> None:
    row = {**GOOD, "event_type": kind, "value": value}
    kept = one({**row, "unit": unit})
    assert (kept["value"], kept["unit"]) == (pytest.approx(wanted), kept_in)
    assert kept["flags"] == ({"unit_converted"} if value != wanted else set())
    left = one({**row, "unit": unit}, off=("unit_converted",))
    assert (left["value"], left["unit"]) == (value, unit)
    if value != wanted:
        said = one(row, units={kind: unit.casefold()})
        assert (said["value"], said["flags"]) == (pytest.approx(wanted), {"unit_converted"})


def test_a_missing_field_is_refused_filled_or_inferred_as_the_policy_says() -> None:
    bare = {"user_id": USER_ID, "item_id": "tea", "event_type": "purchase", "timestamp": NOW}

    def prices(items: list[str], codes: Any, times: Any) -> Any:
        return np.array([{"tea": 4.0}.get(items[code], np.nan) for code in codes])

    assert one(bare)["value"] is None
    filled = one(bare, missing={"quantity": "default:3", "purchase.value": "infer"}, prices=prices)
    assert (filled["quantity"], filled["value"], filled["unit"]) == (3.0, 12.0, "money")
    assert filled["flags"] == {"missing_default", "missing_inferred"}
    unpriced = one({**bare, "item_id": "gold"}, missing={"value": "infer"}, prices=prices)
    assert unpriced["value"] is None
    euros = one({**bare, "value": 2}, missing={"unit": "infer"}, currency="EUR")
    assert (euros["unit"], euros["flags"]) == ("EUR", {"missing_inferred"})
    looked = {**bare, "event_type": "view"}
    assert one(looked, missing={"purchase.value": "refuse"})["value"] is None
    out = cleaned(bare, missing={"purchase.value": "refuse"})
    assert out.refused[0].rule == "missing_field"
    assert out.refused[0].reason.startswith("value is missing")
    timeless = one({**bare, "timestamp": None}, missing={"timestamp": "infer"})
    assert timeless["timestamp"] == NOW
    zoned = one(bare, missing={"tz": "default:Asia/Tokyo"}, off=("missing_default",))
    assert (zoned["tz"], zoned["flags"]) == (None, set())


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"quantity": 2}, "purchase"),
        ({"group_id": "b7"}, "purchase"),
        ({"value": 4.5}, "rating"),
        ({"value": 12.99}, "purchase"),
        ({}, "view"),
    ],
)
def test_a_missing_event_type_is_inferred_from_the_amounts(
    fields: dict[str, Any], wanted: str
) -> None:
    row = {"user_id": USER_ID, "item_id": "tea", "timestamp": NOW, **fields}
    assert one(row, missing={"event_type": "infer"})["event_type"] == wanted
    assert one(row, missing={"event_type": "default:Product Viewed"})["event_type"] == "view"


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"off": ("bad_timme",)}, "bad_time"),
        ({"off": ("bad_time",)}, "cannot be switched off"),
        ({"missing": {"valeu": "refuse"}}, "did you mean value"),
        ({"missing": {"value": "guess"}}, "default:VALUE"),
        ({"missing": {"item_id": "infer"}}, "cannot be inferred"),
        ({"missing": {"user_id": "default:x"}}, "always refused"),
        ({"missing": {"quantity": "default:two"}}, "no number"),
        ({"missing": {"unit": "infer"}}, "currency"),
        ({"units": {"purchase": "centts"}}, "cents"),
        ({"standardise": ("price",)}, "value"),
        ({"robot_items": 1}, "robot_items"),
    ],
)
def test_a_wrong_setting_is_refused_with_a_way_out(config: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        CleanConfig(**config)


def test_amounts_beyond_all_sense_are_refused() -> None:
    assert rule(value="1e300") == "impossible_amount"
    assert rule(quantity="-1e16", event_type="refund") == "impossible_amount"
    assert rule(value="1e15") is None


def test_properties_without_bound_are_refused_and_long_ids_are_kept() -> None:
    for number in (1e308, -1e31, float("inf")):
        assert rule(**{"properties.height": number}) == "impossible_amount"
    for kept in (float("nan"), 1e30, None, 2**63 - 1, "1e308", "inf"):
        assert rule(**{"properties.height": kept}) is None


def test_what_is_boundless_in_a_text_is_no_number() -> None:
    row = {**GOOD, "properties.height": "1e308"}
    assert np.isnan(cleaned(row).batch.numbers("properties.height")).all()
    batch = cleaned({**row, "properties.height": "1e30"}).batch
    assert batch.numbers("properties.height").tolist() == [1e30]


def test_a_rule_that_is_off_is_not_asked() -> None:
    row = {**GOOD, "timestamp": "1980-01-01"}
    assert cleaned(row).refused[0].rule == "impossible_time"
    assert not cleaned(row, off=("impossible_time",)).refused


def test_standardised_amounts_stand_beside_the_amounts() -> None:
    norms = Norms()
    config = CleanConfig(standardise=("value",))
    rng = np.random.default_rng(0)
    values = rng.normal(20, 4, 400).round(2)
    first = clean(raw(*({**GOOD, "value": v} for v in values)), now=NOW, config=config, norms=norms)
    assert set(first.batch.array("properties.value_z").to_pylist()) == {None}
    norms.observe(0, first.batch)
    out = clean(raw({**GOOD, "value": 28.0}), now=NOW, config=config, norms=norms)
    [z] = out.batch.array("properties.value_z").to_pylist()
    assert z == pytest.approx((28.0 - values.mean()) / values.std(), rel=1e-9)


def test_each_rule_has_a_bit_of_its_own_or_refuses() -> None:
    bits = [rule.bit for rule in RULES.values() if rule.bit]
    assert len(set(bits)) == len(bits)
    assert all(bit.bit_count() == 1 for bit in bits)
    assert all(rule.reason for rule in RULES.values())
