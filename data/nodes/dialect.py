"""How a node's files and texts are written: the sections `[csv]` and `[text]` of its declaration."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Declaration(BaseModel):
    """Base of what a TOML file declares: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Csv(Declaration):
    """How the rows of CSV files are written."""

    encoding: str = Field(
        default="utf-8", description="a text encoding of Python, such as latin-1; a byte order mark goes before it"
    )
    delimiter: Annotated[str, Field(min_length=1, max_length=8)] = Field(
        default=",", description="between values; of several characters only where quote is empty"
    )
    quote: Annotated[str, Field(max_length=1)] = Field(
        default='"', description="around values, doubled within them; empty: values are not quoted"
    )
    header: tuple[str, ...] = Field(
        default=(), description="names of the columns of files without a header line; default: the first line has them"
    )
    trim: bool = Field(default=False, description="leave out blanks around names and values")
    extensions: tuple[Annotated[str, Field(pattern=r"^\.[a-z0-9]+$")], ...] = Field(
        default=(".csv",), description="of files that are CSV, in lower case"
    )
    max_value_lines: Annotated[int, Field(ge=1)] = Field(
        default=20, description="of a quoted value; where one does not end in them, its quote is taken for a stray one"
    )
    max_value_bytes: Annotated[int, Field(ge=1, le=8 << 20)] = Field(default=65_536, description="the same in bytes")

    @model_validator(mode="after")
    def _agrees(self) -> "Csv":
        try:
            "".encode(self.encoding)
        except LookupError as error:
            raise ValueError(f"encoding {self.encoding!r} is no text encoding of Python") from error
        for name, sign in (("delimiter", self.delimiter), ("quote", self.quote)):
            if not sign.isascii() or any(character in "\r\n\0" for character in sign):
                raise ValueError(f"the {name} must be ASCII and no line break, got {sign!r}")
        if self.quote and (len(self.delimiter) > 1 or self.quote == self.delimiter):
            raise ValueError(
                f"values between {self.delimiter!r} cannot be quoted by {self.quote!r}: "
                'give a delimiter of one other character, or quote = ""'
            )
        if len(set(self.header)) < len(self.header):
            raise ValueError("each name in header may be given once")
        return self


class Text(Declaration):
    """How values are written that are text, in files and in requests alike."""

    decimal: Literal[".", ","] = Field(default=".", description="the decimal sign; with a comma, 1.5 is no number")
    missing: tuple[str, ...] = Field(
        default=(), description="words for a missing value, such as NULL, beside blank text; NaN is one in numbers"
    )
