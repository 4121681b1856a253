"""Revisions of the tables: the first is what stores had before, the newest is what is declared, half of one is none."""

import hashlib
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

import data.log.migrations
from data.log.errors import StoreError, StoreUnavailable
from data.log.migrations.revisions import REVISION, differences
from data.log.store import Store
from data.schema import Event
from tests.support.records import decision

FOLDER = str(Path(data.log.migrations.__file__).parent)
VERSION_3 = "2acc1be7c9e8a371"
"""Of the statements that made the tables and indexes of version 3, before there were revisions."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def statements(path: Path, stamp: bool = False) -> list[tuple[str, ...]]:
    """Return all tables and indexes with the statements that made them; Alembic's own only with `stamp`."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE tbl_name <> 'alembic_version'"
        )
        return sorted(rows, key=str)


@pytest.fixture
def connection(path: Path) -> Iterator[sa.Connection]:
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def config(connection: sa.Connection) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", FOLDER)
    return config


def test_the_first_revision_is_version_3_to_the_letter(path: Path, connection: sa.Connection) -> None:
    command.upgrade(config(connection), "0001")
    connection.commit()
    assert hashlib.sha256(str(statements(path)).encode()).hexdigest()[:16] == VERSION_3


def test_the_revisions_come_to_what_is_declared_and_what_a_new_store_has(
    path: Path, tmp_path: Path, connection: sa.Connection
) -> None:
    command.upgrade(config(connection), "head")
    connection.commit()
    assert differences(connection) == []
    Store.open(f"sqlite:///{tmp_path / 'new.db'}").close()
    assert _columns_of(statements(path, stamp=True)) == _columns_of(statements(tmp_path / "new.db", stamp=True))
    assert revision(path) == revision(tmp_path / "new.db") == REVISION


def _columns_of(statements: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return statements without their blanks: a column that was added stands on the line of the one before it."""
    return [(*named, " ".join((sql or "").replace(",", ", ").split())) for *named, sql in statements]


def test_what_a_revision_lacks_is_found(path: Path, connection: sa.Connection) -> None:
    Store.open(f"sqlite:///{path}").close()
    connection.execute(sa.text("DROP INDEX ix_feedback_loop_seq"))
    connection.execute(sa.text("ALTER TABLE decisions DROP COLUMN request"))
    assert sorted(kind for kind, *_ in differences(connection)) == ["add_column", "add_index"]


def test_there_is_one_newest_revision(connection: sa.Connection) -> None:
    assert ScriptDirectory.from_config(config(connection)).get_heads() == [REVISION]


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def revision(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        (found,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(found)


OF_REVISION_2 = ("archived_keys", "archived_parts", "archived_strays")
OF_REVISION_3 = ("abtest", "variant", "teams")
BEFORE_4 = ("DROP TABLE sessions",)
BEFORE_3 = (*BEFORE_4, *(f"ALTER TABLE decisions DROP COLUMN {column}" for column in OF_REVISION_3))
BEFORE_REVISIONS = (
    *BEFORE_3,
    *(f"DROP TABLE {table}" for table in ("alembic_version", *OF_REVISION_2)),
    "PRAGMA user_version = 3",
)


def test_a_store_of_version_3_is_taken_over_and_gets_what_it_lacks(path: Path) -> None:
    with closing(Store.open(f"sqlite:///{path}")) as store:
        store.insert([Event(node_id="n", event_id="e")])
    change(path, *BEFORE_REVISIONS)
    before = statements(path)
    for _ in range(2):
        with closing(Store.open(f"sqlite:///{path}")) as store:
            assert [event.event_id for _, event in store.events("n")] == ["e"]
    change(path, *BEFORE_3)  # at the end of their table they stand where they stood
    kept = [statement for statement in statements(path) if statement[2] not in OF_REVISION_2]
    assert (revision(path), kept) == ("0004", before)
    assert {statement[2] for statement in statements(path)} > {*OF_REVISION_2}


def test_decisions_from_before_ab_tests_are_exposures_of_none(path: Path) -> None:
    with closing(Store.open(f"sqlite:///{path}")) as store:
        store.insert([decision("old")])
    change(path, *BEFORE_3, "UPDATE alembic_version SET version_num = '0002'")
    with closing(Store.open(f"sqlite:///{path}")) as store:
        store.insert([decision("new", abtest="t", variant="v", policy="p+q", teams=("p", "q"))])
        assert [one for _, one in store.decisions()] == [
            decision("old"),
            decision("new", abtest="t", variant="v", policy="p+q", teams=("p", "q")),
        ]
    assert revision(path) == "0004"


def test_a_store_of_version_3_that_lacks_something_is_refused_and_left_alone(path: Path) -> None:
    Store.open(f"sqlite:///{path}").close()
    change(path, *BEFORE_REVISIONS, "ALTER TABLE decisions DROP COLUMN mode")
    before = statements(path)
    with pytest.raises(
        StoreError, match=r"version 3 whose tables are not those of version 3: .*add_column.*mode.*; export"
    ):
        Store.open(f"sqlite:///{path}")
    assert statements(path) == before


@pytest.mark.parametrize(
    ("made_by", "said"),
    [
        (
            ("PRAGMA user_version = 1", "CREATE TABLE decisions (x)"),
            r"version 1, from before the first release: export",
        ),
        (
            ("PRAGMA user_version = 2", "CREATE TABLE decisions (x)"),
            r"version 2, from before the first release: export",
        ),
        (("PRAGMA user_version = 99",), r"no log of revision 0004: .* a database of version 99 with 0 tables"),
        (("CREATE TABLE x (y)",), r"no log of revision 0004: .* a database of version 0 with 1 tables"),
        (
            ("CREATE TABLE alembic_version (version_num)", "INSERT INTO alembic_version VALUES ('9999')"),
            r"revision 9999, which is later than 0004, .*: open it with the version of the code that made it",
        ),
    ],
)
def test_what_is_no_log_of_this_code_is_refused_and_left_alone(path: Path, made_by: tuple[str, ...], said: str) -> None:
    change(path, *made_by)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=said) as refused:
        Store.open(f"sqlite:///{path}")
    assert not isinstance(refused.value, StoreUnavailable)
    assert path.read_bytes() == before


OPEN = """
import sys
import sqlalchemy as sa
from data.log.store import Store
{}
Store.open("sqlite:///" + sys.argv[1]).close()
assert "alembic" not in sys.modules
"""
KILLED = """
import os, signal
left = {}
def count(*_):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
sa.event.listen(sa.Engine, "{}", count)
"""


def run(path: Path, first: str = "") -> int:
    return subprocess.run([sys.executable, "-c", OPEN.format(first), path], check=False).returncode


@pytest.mark.heavy
def test_a_store_is_made_and_opened_without_alembic(path: Path) -> None:
    assert [run(path), run(path)] == [0, 0]


@pytest.mark.heavy
@pytest.mark.parametrize(("left", "event"), [(2, "after_cursor_execute"), (20, "after_cursor_execute"), (0, "commit")])
def test_a_process_that_is_killed_while_it_makes_the_tables_leaves_none(path: Path, left: int, event: str) -> None:
    assert run(path, KILLED.format(left, event)) == -signal.SIGKILL
    assert statements(path) == []
    with closing(Store.open(f"sqlite:///{path}")) as store:
        assert store.insert([Event(node_id="n", event_id="e")])[0].inserted
    assert revision(path) == REVISION
