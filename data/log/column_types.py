"""How the values of records stand in the columns of tables, and come back."""
# ruff: noqa: D102 - the contract of these methods is SQLAlchemy's

from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from pydantic import BaseModel
from pydantic_core import from_json, to_json
from sqlalchemy.types import TypeDecorator

from data.fields import from_us, to_us
from data.schema import Slot


class Time(TypeDecorator[datetime]):
    """A point in time as whole microseconds since 1970 UTC: exact, and compared as a number."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:
        return None if value is None else to_us(value)

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else from_us(value)


Position: Final = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""A log position: 64 bits; SQLite counts up in what it calls an integer only."""


class RawText(TypeDecorator[str]):
    """A text as somebody sent it. It may have the character NUL, which PostgreSQL keeps in bytes only."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        return dialect.type_descriptor(sa.LargeBinary() if dialect.name == "postgresql" else sa.Text())

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> Any:
        return value.encode() if value is not None and dialect.name == "postgresql" else value

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> str | None:
        return bytes(value).decode() if isinstance(value, bytes | memoryview) else value


class Json(TypeDecorator[Any]):
    """JSON text: a float is written as the shortest digits that read back as the same float."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str:
        return to_json(value).decode()

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:
        return None if value is None else from_json(value)


class JsonModel(Json):
    """A record within a record; None where there is none."""

    cache_ok = True

    def __init__(self, model: type[BaseModel]) -> None:
        super().__init__()
        self.model = model

    def process_bind_param(self, value: BaseModel | None, dialect: sa.Dialect) -> str | None:  # type: ignore[override]
        return None if value is None else value.model_dump_json(exclude_defaults=True)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> BaseModel | None:
        return None if value is None else self.model.model_validate_json(value)


class JsonSlots(Json):
    """The slots of a decision; an empty tuple where there is none."""

    cache_ok = True

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> tuple[Slot, ...]:
        return () if value in (None, "[]") else tuple(Slot.model_validate(slot) for slot in from_json(value or "[]"))


class JsonTuple(Json):
    """An array; None where there is none."""

    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str:
        return to_json(value).decode() if value else "[]"

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> tuple[Any, ...] | None:
        return None if value is None else tuple(from_json(value))
