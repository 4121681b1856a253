"""Declarations of nodes: what is accepted, and that a wrong one says what is wrong."""

from pathlib import Path

import pytest

from data.errors import DataError
from data.nodes.node import load_node, load_nodes

COLUMN = '[[columns]]\nname = "{}"\ntype = "{}"\n'


def declare(tmp_path: Path, body: str) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(f'name = "shop"\n{body}')
    return path


def test_online_retail_has_the_rules_in_their_order() -> None:
    node = load_node("online_retail")
    assert [c.name for c in node.columns if c.missing == "reject"][-1] == "customer"
    assert [rule.name for rule in node.rules] == ["goods code", "quantity > 0", "unit price > 0"]
    assert {column.role: column.header for column in node.columns if column.role} == {
        "session": "InvoiceNo",
        "item": "StockCode",
        "outcome": "Quantity",
        "price": "UnitPrice",
        "time": "InvoiceDate",
        "user": "CustomerID",
    }
    assert [column.stored_name for column in node.scaled_columns] == ["outcome", "unit_price"]


def test_a_path_is_a_node_too(tmp_path: Path) -> None:
    node = load_node(declare(tmp_path, COLUMN.format("price", "float")))
    assert (node.name, node.columns[0].header) == ("shop", "price")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (COLUMN.format("price", "number"), "columns.0.type"),
        (COLUMN.format("price", "float") + "colour = 3\n", "columns.0.colour: Extra inputs"),
        (COLUMN.format("price", "float") * 2, "each column name may be given once, given twice: price"),
        (COLUMN.format("time", "timestamp"), "'time' is reserved"),
        (COLUMN.format("id", "string") + 'role = "key"\n', "a missing key cannot be kept"),
        (COLUMN.format("when", "string") + 'role = "time"\n', "the time column must be a timestamp"),
        (COLUMN.format("code", "string") + 'scale = "minmax"\n', "only an int or a float can be scaled"),
        (COLUMN.format("price", "float") + 'missing = { fill = "x" }\n', "fill value 'x' of price is not a float"),
        (
            COLUMN.format("price", "float") + '[[rules]]\nname = "r"\ncolumn = "prize"\ngt = 0\n',
            "'prize', which is not",
        ),
        (COLUMN.format("price", "float") + '[[rules]]\nname = "r"\ncolumn = "price"\n', "exactly one of"),
        (COLUMN.format("price", "float") + '[[rules]]\nname = "r"\ncolumn = "price"\npattern = "a"\n', "is a float"),
        (COLUMN.format("code", "string") + '[[rules]]\nname = "r"\ncolumn = "code"\npattern = "(?=a)"\n', "RE2"),
        ("columns = 3 = 4", "is not a TOML file"),
        (COLUMN.format("cost", "string") + 'role = "price"\n', "the price column must be an int or a float"),
        (
            COLUMN.format("a", "float") + 'role = "price"\n' + COLUMN.format("b", "float") + 'role = "amount"\n',
            "give a price (of one piece) or an amount (of the whole line), not both",
        ),
        (COLUMN.format("kind", "string") + "words = { view = 1 }\n", "words are for an int or a float"),
        (COLUMN.format("kind", "int") + "words = { view = 0.5 }\n", "kind is an int, but some of its words"),
        (COLUMN.format("at", "timestamp") + 'format = "%d.%m.%Y %Q"\n', "format '%d.%m.%Y %Q' cannot be read: 'Q' is"),
        (COLUMN.format("at", "timestamp") + 'format = "epoch_m"\n', "'epoch_m' has no year"),
        (COLUMN.format("at", "timestamp") + 'format = "%d.%m. %H:%M"\n', "has no year"),
        ('[csv]\nencoding = "latin-99"\n' + COLUMN.format("a", "int"), "encoding 'latin-99' is no text encoding"),
        ('[csv]\ndelimiter = "::"\n' + COLUMN.format("a", "int"), "values between '::' cannot be quoted by '\"'"),
        ('[csv]\ndelimiter = "\u00a7"\n' + COLUMN.format("a", "int"), "the delimiter must be ASCII"),
        ('[csv]\nheader = ["a", "a"]\n' + COLUMN.format("a", "int"), "each name in header may be given once"),
        ('[csv]\nextensions = ["dat"]\n' + COLUMN.format("a", "int"), "csv.extensions.0"),
        ("[csv]\nmax_value_lines = 0\n" + COLUMN.format("a", "int"), "csv.max_value_lines"),
        ('[text]\ndecimal = "\'"\n' + COLUMN.format("a", "int"), "text.decimal"),
    ],
)
def test_a_wrong_declaration_says_what_is_wrong(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        load_node(declare(tmp_path, body))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"no node 'retail'.*clickstream, movielens, online_retail"):
        load_node("retail")


def test_two_declarations_of_one_name_are_refused() -> None:
    assert list(load_nodes(["online_retail", "clickstream"])) == ["online_retail", "clickstream"]
    both = "both online_retail and online_retail_csv declare the node 'online_retail'"
    with pytest.raises(DataError, match=both):
        load_nodes(["online_retail", "clickstream", "online_retail_csv"])
