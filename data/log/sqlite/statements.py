"""How SQLite spells what `data.log.statements` means."""

from typing import Any

from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from data.log.statements import arguments, contains, database_bytes, has_element, stored_bytes, stored_integer


@compiles(has_element, "sqlite")
def _has_element(element: has_element, compiler: SQLCompiler, **options: Any) -> str:
    array, value = arguments(element, compiler, options)
    return f"EXISTS (SELECT 1 FROM json_each({array}) AS element WHERE element.value = {value})"


@compiles(contains, "sqlite")
def _contains(element: contains, compiler: SQLCompiler, **options: Any) -> str:
    text, part = arguments(element, compiler, options)
    return f"instr({text}, {part}) > 0"


@compiles(stored_integer, "sqlite")
def _stored_integer(element: stored_integer, compiler: SQLCompiler, **options: Any) -> str:
    [column] = arguments(element, compiler, options)
    return f"CASE WHEN typeof({column}) = 'integer' THEN {column} ELSE 0 END"


@compiles(stored_bytes, "sqlite")
def _stored_bytes(element: stored_bytes, compiler: SQLCompiler, **options: Any) -> str:
    [column] = arguments(element, compiler, options)
    return f"CAST({column} AS BLOB)"


@compiles(database_bytes, "sqlite")
def _database_bytes(element: database_bytes, compiler: SQLCompiler, **options: Any) -> str:
    return "(SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size())"
