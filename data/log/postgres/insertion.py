"""Rows that are all new, inserted and committed by one message: each session has a function that does it.

A function, because the lock must be taken before the statements that rely on it see the log, and because who is stopped
between two messages would keep it from all others. A temporary one, because it belongs to the code that calls it: two
versions of the code may write to one log.
"""

import logging
from collections.abc import Iterable
from functools import cache
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from pydantic_core import to_json
from sqlalchemy.dialects import postgresql

from data.log.backend import InsertedRows, NewRows
from data.log.column_types import RawText
from data.log.postgres.driver import LOCK, TIME, Connection
from data.log.tables import ARCHIVED_KEYS, DECISIONS, LOGS, Key, Log

_NAMES: Final = tuple("".join(log.table.name) for log in LOGS)
_CALL: Final = f"SELECT * FROM pg_temp.raycommend_insert({'%b::json, ' * len(LOGS)}%b::bigint[], %b::text[])"
_POSTGRES: Final[sa.Dialect] = postgresql.dialect()  # type: ignore[no-untyped-call]
_NUL: Final = rb"\u0000"
"""PostgreSQL reads no JSON that has it."""
_NOW, _DECIDED, _KNOWN = "now", "decided", "known"  # what a row of the answer is that is none of a table
log = logging.getLogger("raycommend.store")


def insert_new(connection: Connection, new: NewRows) -> InsertedRows | None:
    """Insert rows and commit; see `data.log.backend.Backend.insert_new`. The connection has no transaction."""
    texts = [to_json(rows) if (rows := new.tables.get(name)) else None for name in _NAMES]
    if any(text and _NUL in text for text in texts) or not _has_function(connection):
        return None
    values = [text and text.decode() for text in texts]
    return _read(connection.execute_and_commit(_CALL, [*values, list(new.numbers), list(new.about)]))


def _has_function(connection: Connection) -> bool:
    """Return whether the session has its function; make it if that was not tried before."""
    if connection.inserts_new is None:
        try:
            connection.execute(_definition().encode())
            connection.inserts_new = True
        except psycopg.errors.InsufficientPrivilege as error:
            connection.rollback()
            log.warning("each commit takes two messages more, until TEMPORARY is granted on the database: %s", error)
            connection.inserts_new = False
    return connection.inserts_new


def _read(answer: Iterable[tuple[str, int, list[str]]]) -> InsertedRows | None:
    now, seqs, decided = 0, dict[tuple[str, Key], int](), set[str]()
    for what, number, key in answer:
        if what == _KNOWN:
            return None
        if what == _NOW:
            now = number
        elif what == _DECIDED:
            decided.add(key[0])
        else:
            seqs[what, tuple(key)] = number
    return InsertedRows(now, seqs, decided)


@cache
def _definition() -> str:
    """Return what makes the function; a key that is known undoes all, without an error in the server's log."""
    tables = ", ".join(f"rows_{name} json" for name in _NAMES)
    about = f"SELECT decision_id FROM {DECISIONS.table.name} WHERE decision_id = ANY (about)"
    return f"""
        BEGIN; SET LOCAL synchronous_commit = off;  -- it ends with the session: no disk, no standby is to be waited for
        CREATE FUNCTION pg_temp.raycommend_insert({tables}, numbers bigint[], about text[])
        RETURNS TABLE (what text, number bigint, key text[]) LANGUAGE plpgsql AS $function$
        #variable_conflict use_column
        DECLARE now_us bigint;
        BEGIN
            PERFORM pg_advisory_xact_lock({LOCK});
            now_us := ({TIME});
            IF EXISTS (SELECT FROM {ARCHIVED_KEYS.name} WHERE number = ANY (numbers)) THEN
                RETURN QUERY SELECT '{_KNOWN}', 0::bigint, '{{}}'::text[];
                RETURN;
            END IF;
            {"".join(map(_insert, LOGS))}
            RETURN QUERY SELECT '{_NOW}', now_us, '{{}}'::text[];
            IF cardinality(about) > 0 THEN
                RETURN QUERY SELECT '{_DECIDED}', 0::bigint, ARRAY[found.decision_id] FROM ({about}) AS found;
            END IF;
        EXCEPTION WHEN unique_violation THEN
            RETURN QUERY SELECT '{_KNOWN}', 0::bigint, '{{}}'::text[];
        END $function$;
        COMMIT
    """


def _insert(kind: Log[Any]) -> str:
    """Return what inserts the rows of one table, if there are any."""
    quote, types = _POSTGRES.identifier_preparer.quote_identifier, _POSTGRES.type_compiler_instance
    columns = {quote(column.name): column for column in kind.table.c if column.name != "seq"}
    values, given = list[str](), list[str]()
    for name, column in columns.items():
        if column.name == "received_at":
            values.append("now_us")
            continue
        raw = isinstance(column.type, RawText)
        values.append(f"convert_to(given.{name}, 'UTF8')" if raw else f"given.{name}")
        given.append(f"{name} {'text' if raw else types.process(column.type)}")
    keys = ", ".join(f"made.{quote(column.name)}" for column in kind.key)
    return f"""
            IF rows_{kind.table.name} IS NOT NULL THEN
                RETURN QUERY INSERT INTO {kind.table.name} AS made ({", ".join(columns)})
                SELECT {", ".join(values)} FROM json_to_recordset(rows_{kind.table.name}) AS given({", ".join(given)})
                RETURNING '{kind.table.name}', made.seq, ARRAY[{keys}];
            END IF;"""
