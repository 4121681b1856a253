"""Cleaning: types, missing values, rules, ids and scaling, with answers worked out by hand."""

import datetime as dt
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data.ingest.clean import clean, finish_events, finish_rejects
from data.ingest.http_rows import clean_records
from data.ingest.lines import record_table
from data.nodes.dialect import Text
from data.nodes.digest import digest_rows, hexadecimal, raw_bytes
from data.nodes.node import Column, NodeSpec, load_node
from data.nodes.scaler import Moments, Scaler, merge_moments
from data.schema import Event, Reject

RETAIL = load_node("online_retail")
GOOD = {
    "InvoiceNo": "536365",
    "StockCode": "85123A",
    "Description": "HOLDER",
    "Quantity": 6,
    "InvoiceDate": "2010-12-01 08:26:00",
    "UnitPrice": 2.55,
    "CustomerID": 17850.0,
    "Country": "United Kingdom",
}


def one(**columns: Any) -> NodeSpec:
    """A node with one column, `x`."""
    return NodeSpec(name="one", columns=(Column(name="x", **columns),))


def values(node: NodeSpec, raw: list[Any]) -> tuple[list[Any], list[int]]:
    """The accepted values of `x` and the rows that were rejected."""
    cleaned = clean(pa.table({"x": raw}), node, "test")
    return finish_events(cleaned.events, node, None)["x"].to_pylist(), cleaned.rejects["row"].to_pylist()


# The three cases of the source architecture, per row.


def test_good_rows_become_events() -> None:
    [event] = clean_records([GOOD], RETAIL)
    assert isinstance(event, Event)
    assert (event.user_id, event.item_id, event.outcome) == ("17850", "85123A", 6.0)
    assert event.time == dt.datetime(2010, 12, 1, 8, 26, tzinfo=dt.UTC)
    assert {name: event.record[name] for name in ("session", "description", "unit_price", "country")} == {
        "session": "536365",
        "description": "HOLDER",
        "unit_price": 2.55,
        "country": "United Kingdom",
    }


def test_a_missing_value_is_filled() -> None:
    filled, absent = clean_records(
        [GOOD | {"Description": None}, {k: GOOD[k] for k in GOOD if k != "Description"}], RETAIL
    )
    assert isinstance(filled, Event)
    assert filled.record["description"] == ""
    assert absent == filled


def test_a_value_of_the_wrong_type_rejects_its_row_only() -> None:
    first, second, third = clean_records([GOOD, GOOD | {"Quantity": "six"}, GOOD | {"Quantity": 7}], RETAIL)
    assert isinstance(first, Event)
    assert isinstance(third, Event)
    assert isinstance(second, Reject)
    assert (second.rule, second.column, second.value, second.row) == ("type of quantity", "quantity", "six", 1)
    assert second.record == {name: str(value) for name, value in GOOD.items()} | {
        "Quantity": "six",
        "CustomerID": "17850",
    }


def test_the_first_failing_check_is_recorded() -> None:
    broken = [
        GOOD | {"CustomerID": None, "StockCode": "POST", "Quantity": -1, "UnitPrice": 0},
        GOOD | {"StockCode": "POST", "Quantity": -1, "UnitPrice": 0},
        GOOD | {"Quantity": -1, "UnitPrice": 0},
        GOOD | {"UnitPrice": 0},
        GOOD | {"CustomerID": None, "UnitPrice": "free"},
    ]
    cleaned = clean(record_table(broken, RETAIL), RETAIL, "test")
    assert cleaned.rejects["rule"].to_pylist() == [
        "customer present",
        "goods code",
        "quantity > 0",
        "unit price > 0",
        "type of unit_price",
    ]
    assert cleaned.rejects["value"].to_pylist() == [None, "POST", "-1", "0", "free"]
    assert cleaned.rejected == dict.fromkeys(cleaned.rejects["rule"].to_pylist(), 1)
    assert (cleaned.read, cleaned.events.num_rows) == (5, 0)


def test_a_dropped_row_is_counted() -> None:
    node = one(type="int", missing="drop")
    cleaned = clean(pa.table({"x": [1, None, 3]}), node, "test")
    assert (cleaned.events.num_rows, cleaned.rejects.num_rows, cleaned.dropped) == (2, 0, {"x": 1})
    assert clean_records([{"x": None}], node) == [None]


@pytest.mark.parametrize(
    ("columns", "raw", "accepted", "rejected"),
    [
        ({"type": "int"}, ["1", "+2", "-3", "4.0", " 5 ", "", None], [1, 2, -3, 4, 5, None, None], []),
        ({"type": "int"}, ["1.5", "1e3", "0x10", "1_0", "9" * 19, "nan", "7"], [None, 7], [0, 1, 2, 3, 4]),
        ({"type": "int"}, [1.0, 2.5, float("nan"), float("inf")], [1, None], [1, 3]),
        ({"type": "int"}, [True, False], [1, 0], []),
        ({"type": "float"}, ["2.55", "+.5", "1e3", "1e999", "inf", "nan", "2,5"], [2.55, 0.5, 1000.0, None], [3, 4, 6]),
        ({"type": "float"}, [1, None, 3], [1.0, None, 3.0], []),
        ({"type": "bool"}, ["true", "FALSE", "1", "0", "yes"], [True, False, True, False], [4]),
        ({"type": "bool"}, [0, 1, 2], [False, True], [2]),
        # The range of an int64, in text and as numbers; a float beyond 2^53 may be another number.
        ({"type": "int"}, [str(2**63 - 1), "-" + str(2**63 - 1), str(2**63), "1" * 20], [2**63 - 1, 1 - 2**63], [2, 3]),
        ({"type": "int"}, ["0009223372036854775807.00", "-0", "+007"], [2**63 - 1, 0, 7], []),
        ({"type": "int"}, pa.array([2**63 - 1, 2**63], pa.uint64()), [2**63 - 1], [1]),
        ({"type": "int"}, [2.0**53, 2.0**53 + 2, -(2.0**60)], [2**53], [1, 2]),
        ({"type": "int"}, [Decimal("1267831404525690880.00"), Decimal("1.50")], [1267831404525690880], [1]),
        ({"type": "float"}, ["1e15", "-1e15", "1.1e15", "1e300"], [1e15, -1e15], [2, 3]),
        ({"type": "float"}, [1e15, 1e300], [1e15], [1]),
        ({"type": "float"}, pa.array([1.5, None], pa.float16()), [1.5, None], []),
        ({"type": "float", "words": {"view": 1, "buy": 5}}, ["view", " buy", "Buy", "", "2"], [1, 5, None, 2], [2]),
        ({"type": "int", "words": {"view": 1, "buy": 5}}, [3, None], [3, None], []),
        ({"type": "string"}, [17850.0, 2.5, None], ["17850", "2.5", None], []),
        ({"type": "string"}, ["", "  ", " a "], [None, None, " a "], []),
        ({"type": "int", "missing": {"fill": 9}}, ["1", "", None, "x"], [1, 9, 9], [3]),
        ({"type": "string", "missing": {"fill": "none"}}, ["a", None], ["a", "none"], []),
    ],
)
def test_values_convert_by_type(
    columns: dict[str, Any], raw: list[Any], accepted: list[Any], rejected: list[int]
) -> None:
    assert values(one(**columns), raw) == (accepted, rejected)


def test_times_are_utc() -> None:
    noon = dt.datetime(2011, 3, 2, 12, tzinfo=dt.UTC)
    iso = ["2011-03-02T12:00:00", "2011-03-02 12:00", "2011-03-02T13:00:00+01:00", "2011-03-02T12:00:00Z"]
    assert values(one(type="timestamp"), iso) == ([noon] * 4, [])
    assert values(one(type="timestamp"), ["2011-02-30T12:00:00", "soon", iso[0]]) == ([noon], [0, 1])
    assert values(one(type="timestamp"), [dt.datetime(2011, 3, 2, 12)]) == ([noon], [])
    form = one(type="timestamp", format="%m/%d/%Y %H:%M")
    assert values(form, ["3/2/2011 12:00", "2/30/2011 12:00", "13/1/2011 12:00"]) == ([noon], [1, 2])
    assert values(one(type="timestamp", format="epoch_ms"), [1299067200000, None]) == ([noon, None], [])
    assert values(one(type="timestamp", format="epoch_s"), ["1299067200", "x"]) == ([noon], [1])
    assert values(one(type="timestamp"), [1299067200000]) == ([], [0])
    assert values(one(type="timestamp"), ["", "NaT", None, "nan"]) == ([None] * 4, [])


@pytest.mark.parametrize(
    ("form", "raw", "accepted", "rejected"),
    [
        (
            "epoch_us",
            ["1299067200000001", 2**63 - 1, "-62135596800000000"],
            [(2011, 3, 2, 12, 0, 0, 1), (1, 1, 1)],
            [1],
        ),
        ("epoch_us", [1299067200000001, -62135596800000001], [(2011, 3, 2, 12, 0, 0, 1)], [1]),
        ("epoch_s", ["1299067200.5", "253402300799", "253402300800"], [(2011, 3, 2, 12, 0, 0, 500_000)], [2]),
        ("epoch_ms", [1.2990672e12, 1e18, -1e17], [(2011, 3, 2, 12)], [1, 2]),
        ("%Y-%j", ["2012-366", "2011-366", "2011-061", "2011-000"], [(2012, 12, 31), (2011, 3, 2)], [1, 3]),
        ("%y%j", ["12366", "11366"], [(2012, 12, 31)], [1]),
        ("%G-W%V-%u", ["2011-W09-3", "2011-W53-1"], [(2011, 3, 2)], [1]),
        ("%d.%m.%Y %H:%M:%S.%f", ["2.3.2011 12:00:00.5", "2.3.2011 12:00:00", "30.2.2011 12:00:00.5"], [], [1, 2]),
        ("%H:%M:%S.%f %d.%m.%Y", ["12:00:00.5 2.3.2011", "12:00:00 2.3.2011"], [(2011, 3, 2, 12, 0, 0, 500_000)], [1]),
        ("%d %b %Y, %I:%M %p", ["2 Mar 2011, 12:00 PM", "2 Mar 2011, 13:00 PM"], [(2011, 3, 2, 12)], [1]),
        ("%Y-%m-%d", ["0000-01-01", "0001-01-01", "9999-12-31", "10000-01-01"], [(1, 1, 1), (9999, 12, 31)], [0, 3]),
    ],
)
def test_formats_of_times(form: str, raw: list[Any], accepted: list[tuple[Any, ...]], rejected: list[int]) -> None:
    texts = [value if isinstance(value, float) else str(value) for value in raw]
    found, wrong = values(one(type="timestamp", format=form), texts)
    assert wrong == rejected
    assert len(found) == len(raw) - len(rejected)
    assert [dt.datetime(*parts).replace(tzinfo=dt.UTC) for parts in accepted] == found[: len(accepted)]


def test_a_decimal_comma_is_declared() -> None:
    node = NodeSpec(
        name="one", columns=(Column(name="x", type="float"),), text=Text(decimal=",", missing=("-", "NULL"))
    )
    assert values(node, ["2,55", "1.5", "1.234,5", "7", "-", " NULL", "null", "-1,5e3"]) == (
        [2.55, 7.0, None, None, -1500.0],
        [1, 2, 6],
    )


def test_an_id_that_was_rounded_is_no_id() -> None:
    node = NodeSpec(name="one", columns=(Column(name="x", type="string", role="user"),))
    cleaned = clean(pa.table({"x": [17850.0, 2.0**53, 1.267831404525690880e18]}), node, "test")
    assert cleaned.events["user_id"].to_pylist() == ["17850", "9007199254740992"]
    assert cleaned.rejects["row"].to_pylist() == [2]


def test_numbers_that_cannot_be_squared_do_not_stop_a_scaler() -> None:
    cleaned = clean(pa.table({"x": [1.0, 1e300]}), one(type="float", scale="standard"), "test")
    assert cleaned.rejects["row"].to_pylist() == [1]
    assert Moments.of(pa.array([1e15, -1e15])).m2 == 2e30


def test_an_event_id_never_changes() -> None:
    """The documented formula in plain Python, and one id written down: a changed id would store every row again."""
    multipliers = (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53), (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)

    def mix(word: int, factors: tuple[int, int]) -> int:
        for factor in factors:
            word = (word ^ word >> 33) * factor % (1 << 64)
        return word ^ word >> 33

    def lanes(text: bytes) -> list[int]:
        digest = blake2b(text, digest_size=16).digest()
        return [int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")]

    expected = b""
    row: list[int | list[int]] = [
        0b100,
        7,
        lanes(b"ab"),
        0,
        0x3FF8000000000000,
        (1 << 64) - 5,
    ]  # null flags, 7, "ab", null, 1.5, -5
    for lane, state in enumerate(lanes(b"prefix")):
        for word in row:
            state = mix(state ^ (word[lane] if isinstance(word, list) else word), multipliers[lane])
        expected += state.to_bytes(8, "little")
    columns = [pa.array([7]), pa.array(["ab"]), pa.array([None], pa.float64()), pa.array([1.5]), pa.array([-5])]
    [pinned] = hexadecimal(digest_rows(columns, b"prefix")).to_pylist()
    assert pinned == expected.hex() == "08531796905b7fbfcfead91cc518eba8"
    [event] = clean_records([GOOD], RETAIL)
    assert isinstance(event, Event)
    assert event.event_id == "4e738a6d92686f7b98c45e3c2a870e61"


def test_an_id_does_not_depend_on_the_batch_or_the_encoding() -> None:
    count = 40_000  # more than are hashed at a time
    texts = pa.array([None if number % 7 == 0 else f"t{number % 1000}" for number in range(count)])
    numbers = pa.array([None if number % 11 == 0 else number for number in range(count)])
    whole = digest_rows([texts, numbers])
    assert len(set(whole.to_pylist())) == len(set(zip(texts.to_pylist(), numbers.to_pylist(), strict=True)))
    coded = texts.dictionary_encode()
    alone = [digest_rows([coded[at : at + 1], numbers[at : at + 1]])[0] for at in (0, 1, 16_383, 16_384, count - 1)]
    assert alone == [whole[at] for at in (0, 1, 16_383, 16_384, count - 1)]
    flags = [pa.array([None] * position + [0] + [None] * (69 - position), pa.int64()) for position in range(70)]
    assert len(set(digest_rows(flags).to_pylist())) == 70  # one row a column, beyond the first word of flags


def test_equal_values_in_other_columns_give_other_ids() -> None:
    rows = [
        (1, 2, "a"),
        (2, 1, "a"),
        (1, 2, ""),
        (1, 2, None),
        (None, 2, "a"),
        (0, 2, "a"),
        (1, None, "a"),
        (1, 0, "a"),
    ]
    left, middle, right = zip(*rows, strict=True)
    columns = [pa.array(left), pa.array(middle), pa.array(right)]
    assert len(set(digest_rows(columns).to_pylist() + digest_rows(columns, b"p").to_pylist())) == 2 * len(rows)
    small = np.arange(300)  # small numbers in two columns: sums, products and differences repeat, ids do not
    grid = [pa.array(np.repeat(small, 300)), pa.array(np.tile(small, 300))]
    halves = raw_bytes(digest_rows(grid)).view(np.uint64)
    assert len(np.unique(halves[:, 0])) == len(np.unique(halves[:, 1])) == 90_000


def test_rows_that_differ_have_different_ids() -> None:
    pairs = [
        ("a", "bc"),
        ("ab", "c"),
        ("abc", ""),
        ("", "abc"),
        (None, "abc"),
        ("abc", None),
        ("\x1f", "a"),
        ("", "\x1fa"),
    ]
    left, right = (pa.array(side, pa.string()) for side in zip(*pairs, strict=True))
    plain = digest_rows([left, right]).to_pylist()
    assert len(set(plain)) == len(pairs)
    assert digest_rows([left.dictionary_encode(), right.dictionary_encode()]).to_pylist() == plain
    assert digest_rows([left[3:], right[3:]]).to_pylist() == plain[3:]
    zeros = digest_rows([pa.array([0.0, -0.0, 1.0])]).to_pylist()
    assert zeros[0] == zeros[1] != zeros[2]


def test_a_nodes_own_key_is_the_event_id() -> None:
    node = load_node("clickstream")
    click = {"id": "e1", "visitor": "v", "page": "home", "at": 1299067200000, "visit": "s", "dwellSeconds": 3}
    event, dropped, bad = clean_records([click, click | {"page": ""}, click | {"clicked": 2}], node)
    assert isinstance(event, Event)
    assert (event.event_id, event.outcome, event.record["device"]) == ("e1", 0.0, "unknown")
    assert dropped is None
    assert isinstance(bad, Reject)
    assert (bad.rule, bad.value) == ("clicked is 0 or 1", "2")


def test_an_id_longer_than_the_contract_allows_is_rejected() -> None:
    [reject] = clean_records([GOOD | {"StockCode": "1" * 257}], RETAIL)
    assert isinstance(reject, Reject)
    assert reject.rule == "type of stock_code"


def test_half_a_surrogate_pair_is_kept_as_its_escape() -> None:
    [event] = clean_records([GOOD | {"Description": "\ud800"}], RETAIL)
    assert isinstance(event, Event)
    assert event.record["description"] == "\\ud800"


def test_moments_merge_to_those_of_all_values() -> None:
    parts = [
        Moments.of(pa.array(part, pa.float64())) for part in ([2.0, 4.0], [], [4.0, 4.0, 5.0], [5.0, 7.0, 9.0, None])
    ]
    merged = merge_moments({"x": part} for part in parts)["x"]
    assert (merged.count, merged.low, merged.high) == (8, 2.0, 9.0)
    assert (merged.mean, merged.m2) == pytest.approx((5.0, 32.0))  # a standard deviation of 2


def test_scaling_is_by_the_fitted_values_not_by_the_batch() -> None:
    moments = Moments.of(pa.array([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]))
    standard = Scaler.fit(one(type="float", scale="standard"), {"x": moments}, 1)
    assert standard.apply("x", pa.array([9.0, None, 1.0])).to_pylist() == [2.0, None, -2.0]
    ranged = Scaler.fit(one(type="float", scale="minmax"), {"x": moments}, 1)
    assert ranged.apply("x", pa.array([2.0, 9.0, 16.0])).to_pylist() == [0.0, 1.0, 2.0]
    constant = Scaler.fit(one(type="float", scale="standard"), {"x": Moments.of(pa.array([3.0, 3.0]))}, 1)
    assert constant.apply("x", pa.array([3.0])).to_pylist() == [0.0]


def test_what_is_scaled_beyond_every_float_is_missing() -> None:
    narrow = Scaler.fit(one(type="float", scale="minmax"), {"x": Moments.of(pa.array([0.0, 1e-300]))}, 1)
    assert narrow.apply("x", pa.array([1e-300, 1e15, -1e15, None])).to_pylist() == [1.0, None, None, None]


def test_one_record_gets_the_id_and_the_scaled_value_it_gets_in_a_file() -> None:
    typed = pa.table(
        {
            "InvoiceNo": ["536365"] * 2,
            "StockCode": ["85123A", "POST"],
            "Description": ["HOLDER", None],
            "Quantity": pa.array([6, 1], pa.int32()),
            "InvoiceDate": pa.array([dt.datetime(2010, 12, 1, 8, 26)] * 2, pa.timestamp("ms")),
            "UnitPrice": [2.55, 18.0],
            "CustomerID": pa.array([17850, None], pa.int32()),
            "Country": ["United Kingdom"] * 2,
        }
    )
    moments = {"quantity": Moments.of(pa.array([2.0, 4.0])), "unit_price": Moments.of(pa.array([0.55, 2.55]))}
    scaler = Scaler.fit(RETAIL, moments, version=3)
    cleaned = clean(typed, RETAIL, "file:///x.parquet")
    [stored] = finish_events(cleaned.events, RETAIL, scaler).to_pylist()
    [online] = clean_records([GOOD], RETAIL, scaler)
    assert isinstance(online, Event)
    assert online.event_id == stored["event_id"]
    assert (stored["outcome_scaled"], stored["unit_price_scaled"]) == pytest.approx((3.0, 1.0))
    assert online.record["outcome_scaled"] == stored["outcome_scaled"]
    assert online.record["unit_price_scaled"] == stored["unit_price_scaled"]
    assert online.record["scaler_version"] == stored["scaler_version"] == 3
    assert finish_rejects(cleaned.rejects, RETAIL)["rule"].to_pylist() == ["customer present"]
