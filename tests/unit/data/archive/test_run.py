"""The command that archives closed days: what it says, on local disks and object stores, and how long it keeps what."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pyarrow.fs
import pytest

from data.archive.objects import SERVED, Objects
from data.archive.run import archive_days, main
from data.command import DONE, REFUSED
from data.log.archiving.retention import Retention, find_expired
from data.log.erasures import erase_from_store
from data.log.loops import fold_steps
from data.log.store import Store
from data.schema import AnyRecord, Event, Version
from data.settings import Settings
from serve.config import DailyArchive, ServiceConfig
from serve.learning.archiving import archive_now, seconds_until
from tests.support.archives import DAY, DECISIONS, everything, write_days
from tests.support.clocks import NOON, Clock
from tests.support.objects import object_store


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, store=None, archive=None)


@pytest.fixture
def written(store: Store, clock: Clock) -> list[AnyRecord]:
    return write_days(store, clock, DECISIONS)


@pytest.mark.heavy
def test_the_command_tells_what_it_did(
    store: Store, written: list[AnyRecord], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--home", str(tmp_path), "--keep-days", "3"]) == DONE
    told = json.loads(capsys.readouterr().out)
    assert told["moved"] == {"decisions": 150, "feedback": 222, "events": 38, "rejects": 25, "versions": 148}
    assert told["left"] == {"feedback": 15, "versions": 2}
    assert told["days"] == ["2026-01-05", "2026-01-06", "2026-01-07", "2026-01-08"]
    assert (told["archive"], told["wait_s"], told["waits_for"]) == (str(tmp_path / "archive"), 60.0, [])
    files = [path for path in (tmp_path / "archive/log").rglob("*") if path.is_file()]
    assert told["bytes"] == sum(path.stat().st_size for path in files)
    assert main(["--home", str(tmp_path)]) == DONE
    assert json.loads(capsys.readouterr().out)["moved"] == {}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--retain-events", "soon"], "--retain-events: .* got 'soon'"),
        (["--wait-s", "-5"], "the longest wait window must be a number of seconds from 0, got -5.0"),
        (["--wait-s", "nan"], "got nan"),
        (["--keep-days", "-1"], "must be from 0 to 36,500, got -1"),
        (["--keep-days", "999999999"], "got 999999999"),
        (["--retain-old-steps", "0"], "--retain-old-steps: .* greater than or equal to 1"),
    ],
)
@pytest.mark.usefixtures("store")
def test_what_it_cannot_use_it_refuses(
    tmp_path: Path, options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--home", str(tmp_path), *options]) == REFUSED
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.search(says, captured.err)


def test_a_second_one_at_the_same_time_is_refused(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with store.exclusively("archive"):
        assert main(["--home", str(tmp_path)]) == REFUSED
    assert "is at it and holds" in capsys.readouterr().err


@pytest.mark.heavy
def test_an_archive_that_cannot_be_written_to_loses_nothing(
    store: Store, written: list[AnyRecord], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(store)
    (tmp_path / "archive").write_text("a file")
    assert main(["--home", str(tmp_path)]) == REFUSED
    assert "cannot be" in capsys.readouterr().err
    assert everything(store) == before


@pytest.fixture
def bucket() -> Iterator[str]:
    with object_store() as uri:
        yield uri


@pytest.mark.slow
def test_days_lie_in_an_object_store_too(store: Store, written: list[AnyRecord], tmp_path: Path, bucket: str) -> None:
    before = everything(store)
    place, _, options = bucket.partition("?")
    settings = Settings(home=tmp_path, store=None, archive=f"{place}/days?{options}")
    done = archive_days(store, settings)
    assert done.moved["decisions"] == 119
    assert everything(store) == before
    with closing(Store.open(settings.store_url)) as other:  # finds it by what the log says
        assert other.decisions() == before["decisions"]
    counts = erase_from_store(store, "u5")
    assert counts["decisions"] > 5
    filesystem, root = pyarrow.fs.FileSystem.from_uri(f"{place}/days?{options}")
    files = filesystem.get_file_info(pyarrow.fs.FileSelector(root, recursive=True))
    with store.reading() as connection:
        parts = set(connection.exec_driver_sql("SELECT path FROM archived_parts").scalars())
    assert {info.path.removeprefix(f"{root}/") for info in files if info.is_file} == parts


@pytest.mark.heavy
def test_each_kind_is_kept_as_long_as_it_is_said(
    store: Store, clock: Clock, settings: Settings, written: list[AnyRecord]
) -> None:
    clock.now = NOON + 20 * DAY
    done = archive_days(store, settings, Retention(events=19, feedback=18))
    # The events of the 5th are gone, not those of the 6th; and the feedback of the 6th, orphans among it.
    assert done.expired == {"events": 6, "feedback": 68 + 35 + 8}
    assert {event.received_at.day for _, event in store.events("n") if event.received_at} == {6, 7, 8}
    assert len(store.decisions()) == DECISIONS
    expired = find_expired(store)
    assert expired is not None
    assert (expired.until.day, expired.last.day) == (6, 6)
    first = next(record for record in written if isinstance(record, Event))
    assert store.insert([first])[0].inserted, "what is not kept is not known either"
    assert archive_days(store, settings, Retention(events=19, feedback=18)).expired == {}
    assert archive_days(store, settings, Retention(decisions=3)).expired == {"decisions": DECISIONS}
    assert store.decisions() == []


def test_no_row_of_an_open_day_is_deleted(
    store: Store, clock: Clock, settings: Settings, written: list[AnyRecord]
) -> None:
    assert clock() == NOON + 3 * DAY + timedelta(hours=3)
    done = archive_days(store, settings, Retention(decisions=1, feedback=1), wait_s=2.5 * 86_400)
    # The window of the 6th is open: a day of retention is over, but only the 5th is closed.
    assert done.closed_until == "2026-01-06T00:00:00+00:00"
    assert {decision.time.day for _, decision in store.decisions()} == {6, 7, 8}


def test_steps_and_artefacts_of_old_folds_go_and_those_of_the_fold_that_runs_stay(
    store: Store, clock: Clock, settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "artefact"
    folder.mkdir()
    (folder / "file").write_text("x")
    served = Objects.at(settings.archive_uri, SERVED, settings.home / "cache")

    def step(fold: str, number: int, digests: tuple[str, ...] = ()) -> None:
        begins = {"policies": {digest: digest for digest in digests}, "spec": {}} if number == 0 else None
        numbers = {"number": number, "decision_seq": 0, "feedback_seq": 0}
        names = {"version_id": f"{fold}.{number}", "loop": "v1", "objective": "default", "fold_id": fold}
        said = {**names, **numbers, "as_of": clock(), "caught_up": True, "begins": begins}
        store.insert([Version.model_validate(said)])

    for digest in ("aa", "bb", "cc"):
        served.put(digest, folder)
    for number in range(10):
        step("old", number, ("aa", "bb"))
    clock.now += 10 * DAY
    for number in range(10):
        step("new", number, ("bb",))
        clock.now += timedelta(hours=6)
    clock.now += 50 * DAY
    archive_days(store, settings, Retention(old_steps=90))
    assert len(fold_steps(store, "old")) == 10
    done = archive_days(store, settings, Retention(old_steps=30))
    assert done.expired == {"versions": 8, "artefacts": 1}
    assert [version.number for version in fold_steps(store, "old")] == [0, 9]
    assert len(fold_steps(store, "new")) == 10
    assert served.names() == ["bb", "cc"]


@pytest.mark.heavy
def test_a_service_archives_by_its_configuration(
    store: Store, clock: Clock, written: list[AnyRecord], tmp_path: Path
) -> None:
    config = ServiceConfig(home=str(tmp_path), archive=DailyArchive(keep_days=1, retention=Retention(events=5)))
    done = archive_now(config)  # by the machine's clock, months later
    assert (done.moved["decisions"], done.expired["events"]) == (DECISIONS, 38)
    assert seconds_until(3, NOON) == 15 * 3600
    assert seconds_until(12, NOON) == 24 * 3600
    assert seconds_until(13, NOON + timedelta(minutes=59)) == 60
