"""A node's declaration: its columns, what a missing value gets, its rules and its scaling.

A declaration is a TOML file. Those that come with the project lie in `data/nodes/`. What a row goes through, in this
order; the first check that fails is the one that is recorded:

1. the line could be parsed                     `malformed row`
2. each value has its column's type             `type of <column>`, in the order of the columns
3. no value is missing that must be there       `<column> present`, in the order of the columns
4. each rule holds                              the rule's own name, in the order of the rules

A null, a NaN and an empty string are missing values, and so are the words that `[text]` names; in a number or a time
also the text NaN or NaT. A rule says nothing about a missing value.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import (
    Field,
    FiniteFloat,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

from data.errors import DataError, reason
from data.nodes.dialect import Csv, Declaration, Text

NODES = Path(__file__).parent

Role: TypeAlias = Literal["key", "user", "item", "time", "outcome", "session", "price", "amount"]
STORED_AS: Mapping[Role, str] = {
    "key": "event_id",
    "user": "user_id",
    "item": "item_id",
    "time": "time",
    "outcome": "outcome",
    "session": "session",
}
"""The column of the events table that holds a role; a price or an amount keeps its column's own name."""

RESERVED = {*STORED_AS.values(), "node_id", "scaler_version"}
IDENTIFIERS: tuple[Role, ...] = ("key", "user", "item", "session")
NUMBERS = ("int", "float")
EPOCHS = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}
"""Microseconds in one unit of a numeric time."""
Test: TypeAlias = Literal["pattern", "one_of", "gt", "ge", "lt", "le"]
TESTS: tuple[Test, ...] = ("pattern", "one_of", "gt", "ge", "lt", "le")

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
Value: TypeAlias = StrictBool | StrictInt | FiniteFloat | StrictStr


class Fill(Declaration):
    """A missing value becomes `fill`."""

    fill: Value


class Column(Declaration):
    """One column of a node."""

    name: Name = Field(description="our name of it; in the events table unless a role gives it another")
    source: str = Field(default="", description="its header in the files, or its key in JSON; default: its name")
    type: Literal["string", "int", "float", "bool", "timestamp"]
    format: str | None = Field(
        default=None,
        description="of a timestamp given as text: a strptime format (default: ISO 8601); "
        "of one given as a number: epoch_s, epoch_ms or epoch_us. A time without an offset is taken as UTC",
    )
    words: dict[str, FiniteFloat] | None = Field(
        default=None, description="of a number given as words, such as { view = 1, purchase = 5 }: what each is worth"
    )
    role: Role | None = Field(
        default=None,
        description="what it is to a recommender; of money: price, of one piece, or amount, of the whole line",
    )
    missing: Literal["keep", "drop", "reject"] | Fill = Field(
        default="keep",
        description="what a missing value gets: stays null (keep), leaves its row out and counts it (drop), "
        "puts its row among the rejects (reject), or a value ({ fill = ... })",
    )
    scale: Literal["minmax", "standard"] | None = Field(
        default=None, description="adds <column>_scaled, by a scaler fitted on the node's first ingestion"
    )

    @property
    def header(self) -> str:
        """Its name in the files."""
        return self.source or self.name

    @property
    def stored_name(self) -> str:
        """Its name in the events table."""
        return STORED_AS.get(self.role, self.name) if self.role else self.name

    @model_validator(mode="after")
    def _agrees(self) -> "Column":
        if self.role not in STORED_AS and (self.name in RESERVED or self.name.endswith("_scaled")):
            raise ValueError(f"column name {self.name!r} is reserved for the events table; choose another")
        if self.role == "time" and self.type != "timestamp":
            raise ValueError(f"the time column must be a timestamp, {self.name} is a {self.type}")
        if self.role in ("outcome", "price", "amount") and self.type not in NUMBERS:
            raise ValueError(f"the {self.role} column must be an int or a float, {self.name} is a {self.type}")
        if self.words is not None and self.type not in NUMBERS:
            raise ValueError(f"words are for an int or a float, {self.name} is a {self.type}")
        if self.words and self.type == "int" and not all(worth.is_integer() for worth in self.words.values()):
            raise ValueError(f"{self.name} is an int, but some of its words are no whole numbers")
        if self.role in IDENTIFIERS and self.type not in ("string", "int"):
            raise ValueError(f"the {self.role} column must be a string or an int, {self.name} is a {self.type}")
        if self.role == "key" and self.missing not in ("drop", "reject"):
            raise ValueError(f'a missing key cannot be kept: give {self.name} missing = "drop" or "reject"')
        if self.scale and self.type not in NUMBERS:
            raise ValueError(f"only an int or a float can be scaled, {self.name} is a {self.type}")
        if self.format is not None:
            if self.type != "timestamp" or "%z" in self.format:
                raise ValueError(f"format is for timestamps, without %z (offsets are read from ISO 8601): {self.name}")
            _check_format(self.format)
        if isinstance(self.missing, Fill) and not _fits(self.missing.fill, self.type):
            raise ValueError(f"fill value {self.missing.fill!r} of {self.name} is not a {self.type}")
        return self


def _fits(value: Value, kind: str) -> bool:
    """Whether a TOML value can stand in a column of this type; a timestamp has no fill value."""
    types: dict[str, tuple[type, ...]] = {"string": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}
    return isinstance(value, types.get(kind, ())) and (kind == "bool" or not isinstance(value, bool))


def _check_format(form: str) -> None:
    """Raise ValueError if a time's format is one that cannot be read."""
    if form in EPOCHS:
        return
    try:
        datetime.strptime(datetime(2011, 3, 2, 13, 5, 7).strftime(form), form)
    except (ValueError, re.error) as error:
        raise ValueError(
            f"format {form!r} cannot be read: {error}; give {', '.join(EPOCHS)} or directives of Python's strptime"
        ) from error
    if not re.search(r"%[YyGcx]", form):
        raise ValueError(f"format {form!r} has no year")


class Rule(Declaration):
    """What must hold of a column's value, with the name under which its failures are counted."""

    name: Annotated[str, Field(min_length=1)]
    column: Name
    pattern: str | None = Field(default=None, description="RE2 pattern that a string must contain; anchor it with ^ $")
    one_of: tuple[Value, ...] | None = None
    gt: FiniteFloat | None = None
    ge: FiniteFloat | None = None
    lt: FiniteFloat | None = None
    le: FiniteFloat | None = None

    @property
    def test(self) -> Test:
        """The one test that is set."""
        return next(test for test in TESTS if getattr(self, test) is not None)

    @model_validator(mode="after")
    def _agrees(self) -> "Rule":
        given = [test for test in TESTS if getattr(self, test) is not None]
        if len(given) != 1:
            raise ValueError(f"rule {self.name!r} must have exactly one of {', '.join(TESTS)}, got {given}")
        if self.pattern is not None:
            try:
                pc.match_substring_regex(pa.array([""]), self.pattern)
            except pa.ArrowInvalid as error:
                raise ValueError(f"pattern of rule {self.name!r} is not an RE2 expression: {error}") from error
        return self


class NodeSpec(Declaration):
    """An input node: what its rows look like and what becomes of them."""

    name: Name
    columns: Annotated[tuple[Column, ...], Field(min_length=1)]
    rules: tuple[Rule, ...] = ()
    csv: Csv = Csv()
    text: Text = Text()

    def column(self, name: str) -> Column:
        """Return the column of this name."""
        return next(column for column in self.columns if column.name == name)

    def with_role(self, role: Role) -> Column | None:
        """Return the column with this role, if there is one."""
        return next((column for column in self.columns if column.role == role), None)

    @property
    def scaled_columns(self) -> tuple[Column, ...]:
        """The columns that get a scaled copy."""
        return tuple(column for column in self.columns if column.scale)

    @model_validator(mode="after")
    def _agrees(self) -> "NodeSpec":
        for what, values in (
            ("column name", [column.name for column in self.columns]),
            ("source", [column.header for column in self.columns]),
            ("role", [str(column.role) for column in self.columns if column.role]),
            ("rule name", [rule.name for rule in self.rules]),
        ):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"each {what} may be given once, given twice: {', '.join(twice)}")
        if self.with_role("price") and self.with_role("amount"):
            raise ValueError("give a price (of one piece) or an amount (of the whole line), not both")
        types = {column.name: column.type for column in self.columns}
        for rule in self.rules:
            if rule.column not in types:
                raise ValueError(f"rule {rule.name!r} is about {rule.column!r}, which is not a column")
            _check_rule(rule, types[rule.column])
        return self


def _check_rule(rule: Rule, kind: str) -> None:
    """Raise ValueError if the rule's test does not apply to its column's type."""
    if rule.pattern is not None and kind != "string":
        raise ValueError(f"rule {rule.name!r}: a pattern applies to a string, {rule.column} is a {kind}")
    if rule.test in ("gt", "ge", "lt", "le") and kind not in NUMBERS:
        raise ValueError(f"rule {rule.name!r}: {rule.test} applies to an int or a float, {rule.column} is a {kind}")
    wrong = [value for value in rule.one_of or () if not _fits(value, kind)]
    if wrong:
        raise ValueError(f"rule {rule.name!r}: {wrong} cannot be values of {rule.column}, a {kind}")


def load_node(name_or_path: str | Path) -> NodeSpec:
    """Read a node's declaration.

    Args:
        name_or_path: the name of a declaration in `data/nodes/`, or the path of a TOML file.

    Raises:
        DataError: there is no such file, it is not TOML, or it does not declare a node.
    """
    text = str(name_or_path)
    path = Path(text) if text.endswith(".toml") else NODES / f"{text}.toml"
    if not path.is_file():
        shipped = ", ".join(sorted(file.stem for file in NODES.glob("*.toml")))
        raise DataError(f"no node {text!r}: give the path of a .toml file or one of {shipped}")
    try:
        return NodeSpec.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a TOML file: {error}") from error
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'])) or 'node'}: {reason(fault)}" for fault in error.errors()]
        raise DataError(f"{path} does not declare a node: {'; '.join(faults)}") from error


def load_nodes(names_or_paths: Iterable[str | Path]) -> dict[str, NodeSpec]:
    """Read the declarations of several nodes; returns them by name.

    Raises:
        DataError: one cannot be read, as by `load_node`, or two declare nodes of one name.
    """
    nodes, declared_by = dict[str, NodeSpec](), dict[str, str | Path]()
    for given in names_or_paths:
        node = load_node(given)
        if node.name in nodes:
            raise DataError(
                f"both {declared_by[node.name]} and {given} declare the node {node.name!r}: name one of them"
            )
        nodes[node.name], declared_by[node.name] = node, given
    return nodes
