"""What a log's database is asked, for tests that count it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from data.log.store import Store


@contextmanager
def counted(store: Store) -> Iterator[list[str]]:
    """Yield what gets the statements, those that begin transactions too, but not what goes past SQLAlchemy."""
    said, engine = list[str](), store._backend.reading

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        said.append(" ".join(statement.split()))

    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield said
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)
