"""Files as shops and public data sets have them: the table of formats in data/README.md, row by row."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import DataError
from data.ingest.clean import clean
from data.ingest.http_rows import clean_records
from data.nodes.node import NodeSpec, load_node
from data.schema import Event, Reject
from tests.support.nodes import FAULTS, declared, read

RETAIL = load_node("online_retail")


def columns(**declarations: str) -> str:
    """TOML of columns by name: a type, and more fields after it."""
    texts = []
    for name, declaration in declarations.items():
        kind, *fields = declaration.split("; ")
        texts.append("\n".join(["[[columns]]", f'name = "{name}"', f'type = "{kind}"', *fields]))
    return "\n".join(texts) + "\n"


RATINGS = columns(
    user="int; role = 'user'",
    item="int; role = 'item'",
    rating="float; role = 'outcome'",
    at="timestamp; role = 'time'; format = 'epoch_s'",
)
RATED = {"user_id": "1", "item_id": "1193", "outcome": 5.0, "time": datetime(2000, 12, 31, 22, 12, 40, tzinfo=UTC)}
NO_HEADER = 'header = ["user", "item", "rating", "at"]\n'

FORMATS: dict[str, tuple[str, bytes, str, dict[str, Any]]] = {
    "online-retail.csv": (
        "",
        b"InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
        b"536365,85123A,CREAM CAF\xc9 HEART \xa35,6,12/1/2010 8:26,2.55,17850,United Kingdom\n",
        "online_retail_csv",
        {
            "user_id": "17850",
            "time": datetime(2010, 12, 1, 8, 26, tzinfo=UTC),
            "description": "CREAM CAFÉ HEART £5",
            "unit_price": 2.55,
        },
    ),
    "ratings.dat": (
        f'[csv]\nextensions = [".dat"]\ndelimiter = "::"\nquote = ""\n{NO_HEADER}' + RATINGS,
        b"1::1193::5::978300760\n",
        "MovieLens 1M",
        RATED,
    ),
    "u.data": (
        f'[csv]\nextensions = [".data"]\ndelimiter = "\\t"\n{NO_HEADER}' + RATINGS,
        b"1\t1193\t5\t978300760\n",
        "MovieLens 100K",
        RATED,
    ),
    "yoochoose-clicks.dat": (
        '[csv]\nextensions = [".dat"]\nheader = ["session", "at", "item", "category"]\n'
        + columns(
            session="int; role = 'session'", at="timestamp; role = 'time'", item="int; role = 'item'", category="string"
        ),
        b"1,2014-04-07T10:51:09.277Z,214536502,0\n",
        "Yoochoose",
        {"session": "1", "item_id": "214536502", "time": datetime(2014, 4, 7, 10, 51, 9, 277_000, tzinfo=UTC)},
    ),
    "events.csv": (
        columns(
            timestamp="timestamp; role = 'time'; format = 'epoch_ms'",
            visitorid="int; role = 'user'",
            event="float; role = 'outcome'; words = { view = 1, addtocart = 3, transaction = 5 }; missing = 'reject'",
            itemid="int; role = 'item'",
        ),
        b"timestamp,visitorid,event,itemid,transactionid\n1433221332117,257597,addtocart,355908,\n",
        "RetailRocket",
        {"outcome": 3.0, "time": datetime(2015, 6, 2, 5, 2, 12, 117_000, tzinfo=UTC), "user_id": "257597"},
    ),
    "2019-Oct.csv": (
        columns(
            event_time="timestamp; role = 'time'; format = '%Y-%m-%d %H:%M:%S UTC'",
            event_type="int; role = 'outcome'; words = { view = 0, cart = 1, purchase = 5 }",
            product_id="int; role = 'item'",
            category_id="int",
            price="float; role = 'price'",
            user="int; role = 'user'; source = 'user_id'",
        ),
        b"event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
        b"2019-10-01 00:00:00 UTC,purchase,44600062,2103807459595387724,,shiseido,35.79,541312140,72d76fde\n",
        "REES46, multi-category store",
        {"outcome": 5.0, "category_id": 2103807459595387724, "price": 35.79, "user_id": "541312140"},
    ),
    "transaction_data.csv": (
        columns(
            user="int; role = 'user'; source = 'household_id'",
            basket="int; role = 'session'; source = 'basket_id'",
            product="int; role = 'item'; source = 'product_id'",
            quantity="int; role = 'outcome'",
            sales_value="float; role = 'amount'",
            at="timestamp; role = 'time'; source = 'transaction_timestamp'",
        ),
        b"household_id,store_id,basket_id,product_id,quantity,sales_value,week,transaction_timestamp\n"
        b"900,330,31198570044,1095275,2,1.0,1,2017-01-01 11:53:26\n",
        "Complete Journey",
        {"user_id": "900", "item_id": "1095275", "outcome": 2.0, "sales_value": 1.0, "session": "31198570044"},
    ),
    "bestellungen.csv": (
        '[csv]\ndelimiter = ";"\nencoding = "cp1252"\n[text]\ndecimal = ","\n'
        + columns(
            kunde="int; role = 'user'; source = 'Kunde'",
            artikel="string; role = 'item'; source = 'Artikel'",
            preis="float; role = 'price'; source = 'Preis in \u20ac'",
            datum="timestamp; role = 'time'; source = 'Datum'; format = '%d.%m.%Y %H:%M'",
        ),
        "Kunde;Artikel;Preis in \u20ac;Datum\n7;Sch\u00fcssel, gro\u00df;12,75;04.01.2011 10:00\n".encode("cp1252"),
        "European Excel",
        {"item_id": "Sch\u00fcssel, gro\u00df", "preis": 12.75, "time": datetime(2011, 1, 4, 10, tzinfo=UTC)},
    ),
    "unicode-text.csv": (
        '[csv]\ndelimiter = "\\t"\n' + RATINGS,
        "user\titem\trating\tat\r\n1\t1193\t5\t978300760\r\n".encode("utf-16"),
        "Excel's Unicode text",
        RATED,
    ),
    "dump.csv": (
        '[text]\nmissing = ["NULL", "\\\\N", "-"]\n'
        + RATINGS
        + columns(city="string; missing = { fill = '?' }", age="int"),
        b'user,item,rating,at,city,age\n1,1193,5,978300760,"NULL",\\N\n',
        "a database's dump",
        RATED | {"city": "?", "age": None},
    ),
    "pandas.csv": (
        columns(user="int; role = 'user'", at="timestamp; role = 'time'", price="float; role = 'price'", name="string"),
        b"user,at,price,name\n17850.0,NaT,nan,NaN\n",
        "pandas to_csv(na_rep=...)",
        {"user_id": "17850", "time": None, "price": None, "name": "NaN"},
    ),
    "fractions.csv": (
        columns(at="timestamp; role = 'time'; format = '%d.%m.%Y %H:%M:%S,%f'", us="timestamp; format = 'epoch_us'"),
        b'at,us\n"04.01.2024 10:00:00,1234567",1433221332117042\n',
        "fractions of a second",
        {
            "time": datetime(2024, 1, 4, 10, 0, 0, 123_456, tzinfo=UTC),
            "us": datetime(2015, 6, 2, 5, 2, 12, 117_042, tzinfo=UTC),
        },
    ),
    "days.csv": (
        columns(at="timestamp; role = 'time'; format = '%Y-%j'"),
        b"at\n2024-366\n",
        "day of the year",
        {"time": datetime(2024, 12, 31, tzinfo=UTC)},
    ),
    "blanks.csv": (
        "[csv]\ntrim = true\n" + columns(user="string; role = 'user'", item="string; role = 'item'"),
        b"user, item\nu 1 , i 1\n",
        "blanks after commas",
        {"user_id": "u 1", "item_id": "i 1"},
    ),
    "late.jsonl": (
        RATINGS + columns(device="string; missing = { fill = '?' }"),
        b'{"user": 1, "item": 1193, "rating": 5, "at": 978300760}\n',
        "JSON Lines with optional keys",
        RATED | {"device": "?"},
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_declared_format_is_read(name: str, tmp_path: Path) -> None:
    text, content, what, expected = FORMATS[name]
    node = declared(tmp_path, 'name = "node"\n' + text) if text else load_node(what)
    (tmp_path / name).write_bytes(content)
    found = read(node, tmp_path / name)
    assert found.rejects == []
    [event] = found.events
    assert {key: event[key] for key in expected} == expected


def test_the_readme_lists_the_formats() -> None:
    table = re.search(
        r"\| file \| of \|.*?\n\n", (Path(__file__).parents[4] / "data" / "README.md").read_text(), re.DOTALL
    )
    assert table is not None
    assert re.findall(r"^\| `(.*?)` \|", table[0], re.MULTILINE) == list(FORMATS)


def test_the_csv_of_online_retail_is_the_same_node() -> None:
    other = load_node("online_retail_csv")
    same = [c.model_copy(update={"format": None}) for c in other.columns]
    assert other.model_copy(update={"columns": tuple(same), "csv": RETAIL.csv}) == RETAIL


# The small files of situations that went wrong before: what each must give.


def failure(node: NodeSpec, *paths: Path) -> str:
    with pytest.raises(DataError) as error:
        read(node, *paths)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ["05-one-quote.csv", "05-two-quotes.csv"])
def test_a_stray_quote_costs_its_own_row(name: str) -> None:
    found = read(RETAIL, FAULTS / name)
    assert (found.read, len(found.events), found.rules) == (200, 199, [(7, "malformed row")])
    assert {event["session"] for event in found.events} == {str(700_000 + n) for n in range(200) if n != 7}


def test_latin_1(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    undeclared = read(RETAIL, FAULTS / "18-latin1.csv")
    assert (len(undeclared.events), undeclared.rules) == (2, [(0, "malformed row")])
    ragged = read(RETAIL, FAULTS / "18-latin1-ragged.csv")
    assert (len(ragged.events), ragged.rules) == (2, [(0, "malformed row")])
    assert "Caf\\xe9 cups, set of 2 \\xa35" in ragged.rejects[0]["value"]
    message = failure(RETAIL, FAULTS / "18-latin1-header.csv")
    assert "18-latin1-header.csv as csv: its header is not utf-8" in message
    assert "name its encoding, such as latin-1" in message
    latin = RETAIL.model_copy(update={"csv": RETAIL.csv.model_copy(update={"encoding": "latin-1"})})
    assert read(latin, FAULTS / "18-latin1.csv").events[0]["description"] == "Café cup £5"
    assert len(read(latin, FAULTS / "18-latin1-header.csv").events) == 3
    assert capfd.readouterr() == ("", "")  # no bytes on the terminal


def test_ids_of_19_digits_are_the_same_in_text_and_in_numbers() -> None:
    node = load_node(FAULTS / "19-views.toml")
    text, numbers = (read(node, FAULTS / f"19-long-ids.{kind}") for kind in ("csv", "parquet"))
    for found in (text, numbers):
        assert [event["user_id"] for event in found.events] == ["1267831404525690880", "11", "12"]
        assert [event["item_id"] for event in found.events] == ["7", "2053013555631882655", "8"]
    assert text.events[0] == numbers.events[0]  # the other two have another time


def test_fractions_of_a_second() -> None:
    found = read(load_node(FAULTS / "20-fraction.toml"), FAULTS / "20-fraction.csv")
    assert [event["time"].microsecond for event in found.events] == [123_000, 500_000]


def test_the_text_nan_is_a_missing_number() -> None:
    found = read(RETAIL, FAULTS / "21-nan-text.csv")
    assert (len(found.events), found.rules) == (1, [(0, "unit_price present"), (1, "customer present")])


def test_optional_keys_may_come_late(tmp_path: Path) -> None:
    node = load_node("clickstream")
    found = read(node, FAULTS / "22-optional-keys.jsonl")
    assert [event["event_id"] for event in found.events] == ["e0", "e1", "e2", "e3", "e4"]
    lines = (FAULTS / "22-optional-keys.jsonl").read_text().splitlines() * 40
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, lines[0].replace("}", ', "dwellSeconds": 3}')]))
    assert read(node, tmp_path / "a.jsonl").events[-1]["dwell_s"] == 3.0
    (tmp_path / "a.jsonl").write_text('{"id": "e", "visitor": "v", "at": 1}\n' * 100 + lines[0])
    found = read(node, tmp_path / "a.jsonl")  # as over HTTP: what has no page is dropped
    assert (found.dropped, len(found.events)) == (100, 1)
    (tmp_path / "b.jsonl").write_text('{"id": "e", "page": "home", "at": 1, "clicked ": 1}\n')
    assert "lacks key 'visitor' of node clickstream in its first 100 lines; they have 'at', 'clicked ', 'id'" in (
        failure(node, tmp_path / "b.jsonl")
    )
    (tmp_path / "c.jsonl").write_text('{"name": 1}\n')
    every = declared(tmp_path, 'name = "x"\n' + columns(a="int", b="int"))
    assert "lacks keys 'a', 'b'" in failure(every, tmp_path / "c.jsonl")


def test_a_time_that_python_has_not_is_a_reject(tmp_path: Path) -> None:
    found = read(RETAIL, FAULTS / "23-far-time.parquet")
    assert (len(found.events), found.rules) == (1, [(1, "type of invoice_date")])
    node = declared(tmp_path, 'name = "x"\n' + columns(at="timestamp"))
    first, last = datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59)
    known = [first.replace(tzinfo=UTC), last.replace(tzinfo=UTC)]
    for unit, scale in (("s", 1), ("ms", 1_000), ("us", 1_000_000), ("ns", 1_000_000_000)):
        ticks = [int(time.timestamp()) * scale for time in known]
        outside = [ticks[0] - 1, ticks[1] + scale, 2**63 - 1, -(2**63)]
        if unit == "ns":  # which has the years 1677 to 2262
            ticks, outside = [0, 2**63 - 1], []
        cleaned = clean(pa.table({"at": pa.array([*ticks, *outside]).cast(pa.timestamp(unit))}), node, "x")
        assert cleaned.rejects["row"].to_pylist() == list(range(2, 2 + len(outside)))
        if unit != "ns":
            assert cleaned.events["at"].to_pylist() == known
    days = pa.array([0, 2**31 - 1, -(2**31)], pa.int32()).cast(pa.date32())
    pq.write_table(pa.table({"at": days}), tmp_path / "a.parquet")
    assert [row for row, _ in read(node, tmp_path / "a.parquet").rules] == [1, 2]


def test_an_empty_part_has_no_rows() -> None:
    assert len(read(RETAIL, FAULTS / "24-spark-empty-part").events) == 3


def test_columns_that_are_in_the_path(tmp_path: Path) -> None:
    found = read(RETAIL, FAULTS / "25-hive")
    assert sorted(event["country"] for event in found.events) == ["France", "Germany"]
    node = declared(tmp_path, 'name = "x"\n[csv]\nheader = ["a"]\n' + columns(a="int", day="int", city="string"))
    folder = tmp_path / "city=New%20York" / "day=__HIVE_DEFAULT_PARTITION__"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text("1\n")
    (folder / "b.jsonl").write_text('{"a": 2}\n{"a": 3, "city": "Rome"}\n')
    assert [(event["a"], event["day"], event["city"]) for event in read(node, tmp_path).events] == [
        (1, None, "New York"),
        (2, None, "New York"),
        (3, None, "Rome"),
    ]


def test_half_precision() -> None:
    assert [event["unit_price"] for event in read(RETAIL, FAULTS / "26-float16.parquet").events] == [1.5, 2.5]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("27-double-colon.csv", 'looks separated by "::": set delimiter = "::" in [csv] of the node, and header'),
        ("27-no-header.csv", "if that is a row, name the columns as header in [csv] of the node"),
        ("27-semicolon-comma.csv", 'it looks separated by ";": set delimiter = ";" in [csv] of the node'),
        ("27-space-after-comma.csv", "it has 'InvoiceNo', ' StockCode', ' Description', "),
        ("27-space-after-comma.csv", "set trim = true in [csv] of the node"),
    ],
)
def test_what_is_not_declared_is_said_with_the_setting_for_it(name: str, hint: str) -> None:
    assert hint in failure(RETAIL, FAULTS / name)


def test_declared_it_is_read(tmp_path: Path) -> None:
    shop = (Path(__file__).parents[4] / "data/nodes/online_retail.toml").read_text()
    german = '[csv]\ndelimiter = ";"\n[text]\ndecimal = ","\n'
    dated = shop.replace('"timestamp"\n', '"timestamp"\nformat = "%d.%m.%Y %H:%M"\n')
    [event] = read(declared(tmp_path, dated + german), FAULTS / "27-semicolon-comma.csv").events
    assert (event["unit_price"], event["time"]) == (12.75, datetime(2011, 1, 4, 10, tzinfo=UTC))
    [event] = read(declared(tmp_path, shop + "[csv]\ntrim = true\n"), FAULTS / "27-space-after-comma.csv").events
    assert (event["item_id"], event["country"]) == ("22423", "United Kingdom")
    dat = f'name = "x"\n[csv]\ndelimiter = "::"\nquote = ""\n{NO_HEADER}{RATINGS}'
    [event] = read(declared(tmp_path, dat), FAULTS / "27-double-colon.csv").events
    assert {key: event[key] for key in RATED} == RATED


def test_utf_16_without_a_mark_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("InvoiceNo,StockCode\n".encode("utf-16-le"))
    assert 'looks like UTF-16: set encoding = "utf-16-le"' in failure(RETAIL, tmp_path / "a.csv")


# Over HTTP the same values are the same.


def test_records_are_read_by_the_same_declaration(tmp_path: Path) -> None:
    node = declared(
        tmp_path,
        'name = "shop"\n[text]\ndecimal = ","\nmissing = ["NULL"]\n'
        + columns(
            user="int; role = 'user'",
            kind="int; role = 'outcome'; words = { view = 1, buy = 5 }; missing = 'reject'",
            price="float; role = 'price'",
            at="timestamp; role = 'time'; format = 'epoch_us'",
        ),
    )
    good = {"user": 1267831404525690880, "kind": "buy", "price": "1,5", "at": 1433221332117042}
    [event, word, point, null, far, nan] = clean_records(
        [
            good,
            good | {"kind": "Buy"},
            good | {"price": "1.5"},
            good | {"price": "NULL"},
            good | {"at": 10**18},
            good | {"price": "NaN"},
        ],
        node,
    )
    assert isinstance(event, Event)
    assert (event.user_id, event.outcome, event.record["price"]) == ("1267831404525690880", 5.0, 1.5)
    assert event.time == datetime(2015, 6, 2, 5, 2, 12, 117_042, tzinfo=UTC)
    for reject, column in ((word, "kind"), (point, "price"), (far, "at")):
        assert isinstance(reject, Reject)
        assert reject.rule == f"type of {column}"
    assert isinstance(null, Event)
    assert isinstance(nan, Event)
    assert null.record["price"] is nan.record["price"] is None
