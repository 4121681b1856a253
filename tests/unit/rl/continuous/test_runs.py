"""What is kept of runs, and who may take them up."""

from pathlib import Path

import pytest

from rl.continuous.errors import RunError
from rl.continuous.runs import STEPS, Runs

SPEC = {"name": "shop", "data": {"held_out": 0.3}}


def test_a_run_goes_on_after_the_last_step_that_is_kept(tmp_path: Path) -> None:
    runs = Runs(tmp_path, "shop")
    assert runs.last() is None
    assert runs.take_up(SPEC) is None
    run = runs.begin(SPEC, "data")
    run.finish("ingest", {"first": 1})
    (run.folder / "transitions.new").mkdir()  # of a process that was killed
    taken = runs.take_up(SPEC)
    assert taken is not None
    assert (taken.id, taken.number, taken.next_step) == (run.id, 1, "transitions")
    assert taken.steps == {"ingest": {"first": 1}}
    assert runs.last_ended() is None
    for step in STEPS[1:]:
        taken.finish(step, {})
    assert runs.take_up(SPEC) is None
    assert runs.last_ended() == taken


def test_other_settings_are_refused_until_it_has_ended(tmp_path: Path) -> None:
    runs = Runs(tmp_path, "shop")
    folder = runs.begin(SPEC, "data").folder
    with pytest.raises(RunError, match=r"not ended with data.held_out 0.3 instead of 0.5: .* or delete .*000001"):
        runs.take_up({**SPEC, "data": {"held_out": 0.5}})
    assert folder.is_dir()


def test_a_folder_without_a_run_is_begun_anew(tmp_path: Path) -> None:
    runs = Runs(tmp_path, "shop")
    first = runs.begin(SPEC, "data")
    (first.folder / "run.json").unlink()  # it was killed before this was written
    again = runs.begin(SPEC, "time")
    assert (again.number, again.folder, again.why) == (1, first.folder, "time")


def test_old_runs_are_deleted(tmp_path: Path) -> None:
    runs = Runs(tmp_path, "shop")
    for _ in range(4):
        run = runs.begin(SPEC, "data")
    runs.tidy(2)
    assert [folder.name for folder in runs.folders()] == ["000004", "000003"]
    assert runs.last() == run
