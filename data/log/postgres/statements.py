"""How PostgreSQL spells what `data.log.statements` means."""

from typing import Any

from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from data.log.column_types import RawText
from data.log.statements import arguments, contains, database_bytes, has_element, stored_bytes, stored_integer


@compiles(has_element, "postgresql")
def _has_element(element: has_element, compiler: SQLCompiler, **options: Any) -> str:
    array, value = arguments(element, compiler, options)
    return f"jsonb_exists({array}::jsonb, {value})"


@compiles(contains, "postgresql")
def _contains(element: contains, compiler: SQLCompiler, **options: Any) -> str:
    text, part = arguments(element, compiler, options)
    if isinstance(next(iter(element.clauses)).type, RawText):
        return f"position(convert_to({part}, 'UTF8') IN {text}) > 0"
    return f"strpos({text}, {part}) > 0"


@compiles(stored_integer, "postgresql")
@compiles(stored_bytes, "postgresql")
def _stored(element: stored_integer | stored_bytes, compiler: SQLCompiler, **options: Any) -> str:
    [column] = arguments(element, compiler, options)
    return column  # of its type, and in UTF-8: the database sees to that


@compiles(database_bytes, "postgresql")
def _database_bytes(element: database_bytes, compiler: SQLCompiler, **options: Any) -> str:
    return "pg_database_size(current_database())"
