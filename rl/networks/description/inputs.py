"""What a network reads: embedding tables and input nodes, as data."""

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, StringConstraints, field_validator

from data.errors import RecommenderError

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
"""Of a node, a table or a network. No dots: a dot leads into a network (`left.hidden`)."""


class NetworkError(RecommenderError, ValueError):
    """A network is described, fed or stored wrongly; says what, where, and what would be right."""


class Described(BaseModel):
    """Base of every part of a description: no field changes, no field is unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _distinct(names: object) -> object:
    """Refuse a list with repeats: the second of two equal names would never be found."""
    if isinstance(names, list | tuple):
        if repeated := sorted({str(name) for name in names if names.count(name) > 1}):
            raise NetworkError(f"names must be distinct, got more than once: {', '.join(repeated)}")
        return tuple(names)
    return names


Several = Annotated[PositiveInt | Annotated[tuple[str, ...], Field(min_length=1)], BeforeValidator(_distinct)]
"""How many there are, or the name of each."""


def count(several: int | tuple[str, ...]) -> int:
    """Return how many there are."""
    return several if isinstance(several, int) else len(several)


class Embedding(Described):
    """A table with a learned vector for every id. Inputs that name the same table share it.

    Id 0 is "unknown" and padding; its vector is 0 and stays 0.
    """

    values: Annotated[
        Several, Field(description="how many ids there are, including 0; or the known values, with ids 1, 2, ...")
    ]
    width: PositiveInt

    @field_validator("values")
    @classmethod
    def _room_for_one(cls, values: int | tuple[str, ...]) -> int | tuple[str, ...]:
        if values == 1:
            raise NetworkError("a table needs at least 2 ids: 0 is the unknown value")
        return values

    @property
    def size(self) -> int:
        """How many ids there are, including 0."""
        return self.values if isinstance(self.values, int) else len(self.values) + 1


class CategoricalInput(Described):
    """One value out of many, tensor [B] of ids. Gives a vector."""

    kind: Literal["categorical"] = "categorical"
    embedding: Annotated[str, Field(description="name of a table")]


class NumericInput(Described):
    """Numbers, tensor [B, width]; NaN is missing and counts as the mean, or as 0 where nothing is standardised."""

    kind: Literal["numeric"] = "numeric"
    width: PositiveInt = 1
    standardise: Annotated[bool, Field(description="subtract the training data's mean, divide by its deviation")] = (
        False
    )


Pool = Literal["mean", "sum", "last", "attention"]


class TextInput(Described):
    """A text, tensor [B, length] of the ids of its first words in lower case."""

    kind: Literal["text"] = "text"
    embedding: Annotated[str, Field(description="name of a table")]
    length: Annotated[PositiveInt, Field(description="words that are read; the rest is cut")] = 32
    pool: Annotated[Pool | Literal["none"], Field(description="how words become a vector; none: a sequence")] = "mean"
    positions: Annotated[bool, Field(description="add a learned vector for the place in the sequence")] = False


class TagsInput(Described):
    """A set of values, tensor [B, length] of their ids. Order and repeats do not matter. Gives a vector."""

    kind: Literal["tags"] = "tags"
    embedding: Annotated[str, Field(description="name of a table")]
    length: Annotated[PositiveInt, Field(description="distinct tags that are read; the rest is cut")] = 16
    pool: Annotated[Literal["mean", "sum"], Field(description="how tags become a vector; sum: multi-hot")] = "sum"


class SequenceInput(Described):
    """A history, oldest first, tensor [B, length] of the ids of its last values."""

    kind: Literal["sequence"] = "sequence"
    embedding: Annotated[str, Field(description="name of a table")]
    length: Annotated[PositiveInt, Field(description="latest values that are read; the older are cut")] = 32
    pool: Annotated[Pool | Literal["none"], Field(description="how values become a vector; none: a sequence")] = "mean"
    positions: Annotated[bool, Field(description="add a learned vector for the place in the sequence")] = False


ListInput: TypeAlias = TextInput | TagsInput | SequenceInput
Input: TypeAlias = Annotated[
    CategoricalInput | NumericInput | TextInput | TagsInput | SequenceInput, Field(discriminator="kind")
]
"""Any input, told apart by its `kind`."""
