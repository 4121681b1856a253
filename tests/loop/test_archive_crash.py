"""Archiving that is killed: at each step, and at statements in between, no row is lost, and none is there twice."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from data.log.archiving.closing import closed_until
from data.log.archiving.moving import Mover
from data.log.erasures import erase_from_store
from data.log.following import new_feedback
from data.log.loops import fold_steps
from data.log.store import Store
from data.schema import AnyRecord, Decision, Version
from tests.support.archives import archive, write_days
from tests.support.clocks import Clock

DECISIONS = 150
USER = "u5"


@pytest.fixture(scope="module")
def processes() -> Any:
    """Processes that have imported this module, and nothing else of this one."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.loop.test_archive_crash"])
    return context


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("written")
    with closing(Store.open(f"sqlite:///{home}/store.db", clock := Clock())) as store:
        written = write_days(store, clock, DECISIONS)
    (home / "now").write_text(clock.now.isoformat())
    (home / "ids").write_text("\n".join(record.decision_id for record in written if isinstance(record, Decision)))
    return home


def opened(home: Path) -> Store:
    now = Clock().now.fromisoformat((home / "now").read_text())
    return Store.open(f"sqlite:///{home}/store.db", lambda: now)


def contents(store: Store) -> dict[str, Any]:
    """Return all that the log has, by the readers of each kind."""
    ids = [decision.decision_id for _, decision in store.decisions()]
    return {
        "decisions": store.decisions(),
        "by id": store.decisions_by_id(ids),
        "feedback": new_feedback(store, "v1", 0, None, until=None, with_content=True),
        "feedback of": store.feedback_of(ids),
        "events": store.events("n"),
        "steps": fold_steps(store, "f0"),
    }


def _killer(left: int) -> Callable[..., None]:
    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return count


def archive_until(home: Path, steps: int, statements: int) -> None:
    """Archive, and be killed after some steps, or some statements."""
    store = opened(home)
    if statements >= 0:
        sa.event.listen(sa.Engine, "before_cursor_execute", _killer(statements))
        sa.event.listen(sa.Engine, "commit", _killer(statements // 3))
    watch = _killer(steps) if steps >= 0 else lambda *_: None
    mover = Mover(store, str(home / "archive"), watch)
    mover.tidy()
    mover.move(closed_until(store).until)


def erase_until(home: Path, statements: int) -> None:
    store = opened(home)
    sa.event.listen(sa.Engine, "before_cursor_execute", _killer(statements))
    erase_from_store(store, USER)


def run(processes: Any, function: Callable[..., None], *arguments: object) -> int:
    process = processes.Process(target=function, args=arguments)
    process.start()
    process.join(120)
    return int(process.exitcode)


def points() -> Iterator[tuple[int, int]]:
    yield from ((steps, -1) for steps in range(0, 60, 2))
    yield from ((-1, statements) for statements in range(3, 120, 9))


@pytest.mark.slow
def test_whenever_it_is_killed_all_rows_are_there_once_and_the_next_run_completes_it(
    home: Path, processes: Any, tmp_path: Path
) -> None:
    with closing(opened(home)) as store:
        before = contents(store)
    killed = 0
    for number, (steps, statements) in enumerate(points()):
        copy = tmp_path / str(number)
        shutil.copytree(home, copy)
        exitcode = run(processes, archive_until, copy, steps, statements)
        assert exitcode in (0, -signal.SIGKILL)
        killed += exitcode != 0
        with closing(opened(copy)) as store:
            assert contents(store) == before, (steps, statements)
            records: list[AnyRecord] = [decision for _, decision in before["decisions"]][:: 1 + number % 7]
            assert not any(row.inserted for row in store.insert(records)), (steps, statements)
            archive(store, copy / "archive")
            assert contents(store) == before, (steps, statements)
            with store.reading() as connection:
                for name in ("decisions", "events"):
                    left = connection.exec_driver_sql(f"SELECT count(*) FROM {name} WHERE seq < 20").scalar_one()
                    assert left == 0, (name, steps, statements)
                parts = connection.exec_driver_sql("SELECT path FROM archived_parts").scalars()
                files = {str(path.relative_to(copy / "archive")) for path in (copy / "archive").rglob("*.parquet")}
                assert files == set(parts), (steps, statements)
        shutil.rmtree(copy)
    assert killed > 30, "killed after its end: a test of nothing"


@pytest.mark.slow
def test_whenever_an_erasure_is_killed_the_next_one_completes_it(home: Path, processes: Any, tmp_path: Path) -> None:
    archived = tmp_path / "archived"
    shutil.copytree(home, archived)
    with closing(opened(archived)) as store:
        archive(store, archived / "archive")
        before = contents(store)
    theirs = {decision.decision_id for _, decision in before["decisions"] if decision.user_id == USER}
    others = [row for row in before["decisions"] if row[1].decision_id not in theirs]
    killed = 0
    for statements in range(0, 60, 4):
        copy = tmp_path / str(statements)
        shutil.copytree(archived, copy)
        exitcode = run(processes, erase_until, copy, statements)
        assert exitcode in (0, -signal.SIGKILL)
        killed += exitcode != 0
        with closing(opened(copy)) as store:
            assert store.decisions() in (before["decisions"], others)
            erase_from_store(store, USER)
            assert store.decisions() == others
            steps: list[Version] = fold_steps(store, "f0")
            assert steps == before["steps"]
        for path in (copy / "archive").rglob("*.parquet"):
            texts = {str(value) for row in pq.read_table(path).to_pylist() for value in row.values()}
            assert texts.isdisjoint({USER, *theirs}), statements
        shutil.rmtree(copy)
    assert killed > 5
