"""From records to tensors: ids, numbers and targets worked out by hand, from every kind of table."""

import zlib
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from rl.networks import (
    NetworkDescription,
    NetworkError,
    Records,
    encode_inputs,
    encode_targets,
    parse,
)
from rl.networks.description.inputs import CategoricalInput, Embedding, TextInput
from rl.networks.encoding.values import value_reader, words

NAN = float("nan")
DESCRIPTION = parse(
    {
        "embeddings": {
            "words": {"values": 50, "width": 2},
            "items": {"values": ["tea", "cup", "pot"], "width": 2},
            "places": {"values": 5, "width": 2},
        },
        "inputs": {
            "title": {"kind": "text", "embedding": "words", "length": 3},
            "tags": {"kind": "tags", "embedding": "items", "length": 2},
            "past": {"kind": "sequence", "embedding": "items", "length": 3},
            "place": {"kind": "categorical", "embedding": "places"},
            "price": {"kind": "numeric"},
            "rfm": {"kind": "numeric", "width": 2},
        },
        "nodes": {"all": {"kind": "concatenate", "inputs": ["title", "tags", "past", "place", "price", "rfm"]}},
        "outputs": {
            "value": {"kind": "q", "input": "all", "actions": ["wait", "buy"]},
            "click": {"kind": "binary", "input": "all"},
            "topic": {"kind": "class", "input": "all", "classes": ["a", "b", "c"]},
            "rating": {"kind": "regression", "input": "all"},
        },
    }
)
RECORDS: list[dict[str, Any]] = [
    {
        "title": "Tea, for TWO people",
        "tags": ["pot", "tea", "pot"],
        "past": ["tea", "cup", "pot", "cup"],
        "place": 4,
        "price": 2.5,
        "rfm": [1.0, 2.0],
        "value": 3.0,
        "value.action": "buy",
        "click": True,
        "topic": "c",
        "rating": -1.0,
    },
    {
        "title": None,
        "tags": [],
        "past": ["mug", "cup"],
        "place": None,
        "price": None,
        "rfm": None,
        "value": None,
        "value.action": None,
        "click": None,
        "topic": None,
        "rating": None,
    },
]


def word(text: str) -> int:
    return 1 + zlib.crc32(text.encode()) % 49


INPUTS: dict[str, list[Any]] = {
    "title": [[word("tea"), word("for"), word("two")], [0, 0, 0]],
    "tags": [[1, 3], [0, 0]],
    "past": [[2, 3, 2], [0, 2, 0]],
    "place": [4, 0],
    "price": [[2.5], [NAN]],
    "rfm": [[1.0, 2.0], [NAN, NAN]],
}
TARGETS: dict[str, list[Any]] = {
    "value": [3.0, NAN],
    "value.action": [1, -1],
    "click": [1.0, NAN],
    "topic": [2, -1],
    "rating": [-1.0, NAN],
}


def tables(records: list[dict[str, Any]]) -> list[Records]:
    columns = {name: [record[name] for record in records] for name in (records[0] if records else ())}
    return [records, pd.DataFrame(records), pa.Table.from_pylist(records), columns]


def assert_tensors(given: dict[str, Tensor], wanted: dict[str, list[Any]]) -> None:
    assert given.keys() == wanted.keys()
    for name, values in wanted.items():
        torch.testing.assert_close(given[name], torch.tensor(values), rtol=0, atol=0, equal_nan=True)


@pytest.mark.heavy
@pytest.mark.parametrize("records", tables(RECORDS), ids=["dictionaries", "pandas", "pyarrow", "columns"])
def test_every_table_gives_the_same_tensors(records: Records) -> None:
    assert_tensors(encode_inputs(DESCRIPTION, records), INPUTS)
    assert_tensors(encode_targets(DESCRIPTION, records), TARGETS)


@pytest.mark.parametrize("records", tables([]), ids=["dictionaries", "pandas", "pyarrow", "columns"])
def test_no_records_give_tensors_without_rows(records: Records) -> None:
    assert {name: tuple(t.shape) for name, t in encode_inputs(DESCRIPTION, records).items()} == {
        "title": (0, 3),
        "tags": (0, 2),
        "past": (0, 3),
        "place": (0,),
        "price": (0, 1),
        "rfm": (0, 2),
    }
    assert encode_targets(DESCRIPTION, records)["topic"].shape == (0,)


def test_what_numpy_and_pandas_hold_is_read() -> None:
    frame = pd.DataFrame(RECORDS[:1]).astype({"price": "float32", "place": "Int64", "title": "string"})
    frame["past"] = pd.Series([np.array(["tea", "cup"], dtype=object)])
    frame["click"] = np.array([1], dtype=np.int8)
    assert encode_inputs(DESCRIPTION, frame)["past"].tolist() == [[1, 2, 0]]
    assert encode_inputs(DESCRIPTION, frame)["place"].tolist() == [4]
    assert encode_targets(DESCRIPTION, frame)["click"].tolist() == [1.0]
    with_gaps = pd.DataFrame([RECORDS[0], RECORDS[0] | {"place": None}])  # pandas makes floats of integers with gaps
    assert encode_inputs(DESCRIPTION, with_gaps)["place"].tolist() == [4, 0]


def test_numbers_of_numpy_and_decimals_are_numbers() -> None:
    numbers: dict[str, Any] = {
        "price": np.array(2.5),
        "rfm": (Decimal("1.0"), np.float16(2)),
        "place": np.uint8(4),
        "past": np.array(["tea", "cup", "pot", "cup"]),
        "value": Decimal("3"),
        "value.action": np.str_("buy"),
        "click": np.bool_(True),
        "topic": np.array(2),
        "rating": np.float32(-1.0),
    }
    assert_tensors(encode_inputs(DESCRIPTION, [RECORDS[0] | numbers, RECORDS[1]]), INPUTS)
    assert_tensors(encode_targets(DESCRIPTION, [RECORDS[0] | numbers, RECORDS[1]]), TARGETS)
    missing = encode_inputs(DESCRIPTION, [RECORDS[0] | {"price": Decimal("NaN"), "place": np.float32("nan")}])
    assert missing["price"].isnan().all()
    assert missing["place"].tolist() == [0]
    with pytest.raises(NetworkError, match=r"row 0: needs a number up to .*, got 1e\+40"):
        encode_inputs(DESCRIPTION, [RECORDS[0] | {"price": Decimal("1e40")}])


def test_columns_are_arrays_too_and_of_one_length() -> None:
    columns = {name: [value] * 2 for name, value in RECORDS[0].items()}
    read = encode_inputs(DESCRIPTION, columns | {"price": np.array([1.5, 2.5]), "place": pd.Series([4, 3])})
    assert (read["price"].tolist(), read["place"].tolist()) == ([[1.5], [2.5]], [4, 3])
    with pytest.raises(NetworkError, match=r"columns must be of one length, got .*price 1"):
        encode_inputs(DESCRIPTION, columns | {"price": [1.0]})
    with pytest.raises(NetworkError, match=r"'title' needs a list, got 'Tea.*'; a single record is a list of one"):
        encode_inputs(DESCRIPTION, RECORDS[0])


def test_a_key_that_only_some_records_have_is_missing_in_the_others() -> None:
    assert (
        encode_inputs(DESCRIPTION, [RECORDS[0], RECORDS[0] | {"price": 1}, {"title": "x"}])["price"].isnan().sum() == 1
    )


def test_tags_do_not_depend_on_order_and_a_set_is_taken() -> None:
    rows = [
        RECORDS[0] | {"tags": tags} for tags in (["tea", "pot"], ("pot", "tea"), {"tea", "pot"}, ["pot", "x", "tea"])
    ]
    assert encode_inputs(DESCRIPTION, rows)["tags"].tolist() == [[1, 3]] * 4


def test_words_are_those_of_any_language() -> None:
    given = encode_inputs(DESCRIPTION, [RECORDS[0] | {"title": "Straße_7 – ÉTÉ 紅茶"}])["title"].tolist()
    assert given == [[word("straße_7"), word("été"), word("紅")]]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("我想退货", "我 想 退 货"),
        ("iPhone手机 2台", "iphone 手 机 2 台"),
        ("コーヒーを飲む日々", "コ ー ヒ ー を 飲 む 日 々"),
        ("ﾄﾞ𠮷豈", "ﾄ ﾞ 𠮷 豈"),
        ("한국어 텍스트", "한국어 텍스트"),
        ("Straße_7 – ÉTÉ", "straße_7 été"),
    ],
)
def test_chinese_and_japanese_are_read_by_characters_and_others_by_words(text: str, wanted: str) -> None:
    assert words(text) == wanted.split()


def test_texts_that_differ_in_a_character_share_the_others() -> None:
    read = value_reader(TextInput(embedding="t", length=6), {"t": Embedding(values=10**6, width=1)})
    one, other = read("我想退货"), read("我想换货")
    assert [a == b for a, b in zip(one, other, strict=True)] == [True, True, False, True, True, True]
    assert one[:4] == [1 + zlib.crc32(sign.encode()) % (10**6 - 1) for sign in "我想退货"]


def test_a_declared_word_is_read_whole() -> None:
    read = value_reader(TextInput(embedding="t", length=3), {"t": Embedding(values=("紅茶", "茶"), width=1)})
    assert read("紅茶 緑茶") == [1, 0, 2]


def test_a_hash_is_the_same_in_every_process() -> None:
    read = value_reader(CategoricalInput(embedding="t"), {"t": Embedding(values=10**9, width=1)})
    assert read("refund") == 529_615_450  # 1 + crc32 % (10⁹ - 1)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("title", 3, "needs a string, got 3"),
        ("tags", "tea", "needs a list, got 'tea'"),
        ("tags", 3, "needs a list, got 3"),
        ("tags", [3], "needs a string, got 3"),
        ("past", "tea", "needs a list, got 'tea'"),
        ("place", 5, "needs a number from 0 to 4, got 5"),
        ("place", -1, "needs a number from 0 to 4, got -1"),
        ("place", 1.5, "needs a whole number or a string, got 1.5"),
        ("place", True, "needs a whole number or a string, got True"),
        ("place", float("inf"), "needs a whole number or a string, got inf"),
        ("price", "2", "needs a number up to .*, got '2'"),
        ("price", float("inf"), r"needs a number up to 1e\+38, got inf"),
        ("rfm", [1.0], "needs 2 numbers, got 1"),
        ("rfm", ["a", "b"], "needs a number up to .*, got 'a'"),
    ],
)
def test_a_value_that_does_not_fit_its_input_is_named(column: str, value: object, message: str) -> None:
    with pytest.raises(NetworkError, match=f"column '{column}', row 1: {message}"):
        encode_inputs(DESCRIPTION, [RECORDS[0], RECORDS[0] | {column: value}])


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("value", "much", "needs a number"),
        ("value.action", "sell", "needs one of wait, buy, got 'sell'"),
        ("value.action", 2, "needs a number from 0 to 1, got 2"),
        ("click", 2, "needs true, false, 1 or 0, got 2"),
        ("click", "yes", "needs a number"),
        ("topic", "d", "needs one of a, b, c, got 'd'"),
        ("topic", 3, "needs a number from 0 to 2, got 3"),
        ("rating", [1.0], "needs a number"),
    ],
)
def test_a_value_that_does_not_fit_its_output_is_named(column: str, value: object, message: str) -> None:
    with pytest.raises(NetworkError, match=f"column '{column}', row 1: {message}"):
        encode_targets(DESCRIPTION, [RECORDS[0], RECORDS[0] | {column: value}])


def test_minus_one_is_no_answer_but_a_rating() -> None:
    row = RECORDS[0] | {"value.action": -1, "click": -1, "topic": -1, "rating": -1}
    given = encode_targets(DESCRIPTION, [row])
    assert given["value.action"].item() == given["topic"].item() == given["rating"].item() == -1
    assert given["click"].isnan().all()


@pytest.mark.parametrize("records", tables(RECORDS), ids=["dictionaries", "pandas", "pyarrow", "columns"])
def test_a_missing_column_is_named(records: Records) -> None:
    other = DESCRIPTION.model_dump(mode="json")
    other["inputs"]["cost"] = other["inputs"].pop("price")
    other["nodes"]["all"]["inputs"][4] = "cost"
    other["outputs"]["stars"] = other["outputs"].pop("rating")
    description: NetworkDescription = parse(other)
    with pytest.raises(NetworkError, match=r"the records have no column 'cost'; they have: title, tags, .*rating"):
        encode_inputs(description, records)
    with pytest.raises(NetworkError, match="the records have no column 'stars'"):
        encode_targets(description, records)
