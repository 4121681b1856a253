"""Runs of continuous training as processes: killed at every step, one beside another, and failing."""

import json
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from data.settings import Settings
from rl import registry
from rl.continuous.errors import RunError
from rl.continuous.pipeline import FUNCTIONS, StepFailed, do_run
from rl.continuous.runs import STEPS, Runs
from rl.gate import conformance
from rl.training.run.tracking_client import tracking_client
from tests.support.continuous import load_spec, make_home

KILLED = -9


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("made")
    make_home(home)
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """A home that others do not change. Its registry's files stay where they were made, which nobody changes either."""
    return Path(shutil.copytree(made, tmp_path / "home"))


def run(home: Path, *killed: str) -> int:
    command = [sys.executable, "-m", "tests.support.continuous", str(home / "spec.toml"), *killed]
    environment = {"RAYCOMMEND_HOME": str(home), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, KILLED), done.stderr
    return done.returncode


def state(home: Path) -> tuple[dict[str, int], list[tuple[int, Any]]]:
    """Return the registry's aliases, and its versions with their content."""
    found = registry.show(Settings(home=home))
    return found["aliases"], [(row["version"], row["digest"]) for row in found["versions"]]


@pytest.mark.slow
def test_killed_at_every_step_and_going_on_it_ends_in_the_same_registry(made: Path, tmp_path: Path) -> None:
    """Each step is killed before it begins and after its work, before that is kept: so most are done three times."""
    undisturbed, disturbed = (Path(shutil.copytree(made, tmp_path / name)) for name in ("undisturbed", "disturbed"))
    before = state(disturbed)
    assert run(undisturbed) == 0
    expected = state(undisturbed)
    assert expected[0] == {"champion": 2, "challenger": 2}
    assert len(expected[1]) == 2
    for step in STEPS:
        for when in ("before", "after"):
            assert run(disturbed, step, when) == KILLED, (step, when)
            last = Runs(disturbed, "drinks").last()
            assert last is not None
            assert (last.number, last.next_step) == (1, step)
            if STEPS.index(step) < STEPS.index("evaluate"):
                assert state(disturbed) == before
            if (step, when) != ("promote", "after"):
                assert state(disturbed)[0]["champion"] == 1
    assert run(disturbed) == 0
    assert state(disturbed) == expected
    versions = registry.show(Settings(home=disturbed))["versions"]
    assert "promoted" in versions[0]
    assert run(disturbed) == 0  # nothing is due
    assert state(disturbed) == expected


@pytest.mark.heavy
@pytest.mark.usefixtures("ray_local")
def test_one_run_at_a_time_which_keeps_what_it_saw(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance, "_TIMED", 50)
    spec, settings = load_spec(home / "spec.toml"), Settings(home=home)
    with Runs(home, "drinks").lock(), pytest.raises(RunError, match=r"process \d+ does a run in .*drinks: wait for it"):
        do_run(spec, settings)
    found = do_run(spec, settings)
    assert found is not None
    assert (found["promoted"], found["champion"], found["version"], found["mlflow_failures"]) == (True, 1, 2, 0)
    assert found["data"]["decisions"] == 4_000
    assert found["trained"]["learned"] == 2_000
    assert do_run(spec, settings) is None
    tracked = tracking_client(settings.tracking_uri).get_run(found["mlflow_run"])
    tags, folder = tracked.data.tags, Path(found["folder"])
    kept = json.loads((folder / "run.json").read_text())["steps"]
    assert (tags["raycommend.ingest.first"], tags["raycommend.ingest.last"]) == ("1", "4000")
    assert tags["raycommend.transitions.sha256.logged.parquet"] == kept["transitions"]["sha256"]["logged.parquet"]
    assert tracked.data.params["data.held_out"] == "0.5"
    assert tracked.info.status == "FINISHED"
    assert (folder / "transitions" / "sim_to_real.png").stat().st_size > 10_000
    assert found["sim_to_real"]["classes"] == 1  # all of its users are alike
    assert found["sim_to_real"]["realised_low"] <= found["sim_to_real"]["predicted_value"]


@pytest.mark.heavy
@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_fails_changes_nothing_that_is_served(
    home: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conformance, "_TIMED", 50)
    spec, settings = load_spec(home / "spec.toml"), Settings(home=home)

    def fail(work: Any) -> dict[str, Any]:
        raise OSError(28, "No space left on device")

    with pytest.raises(StepFailed, match=rf"run 1 of drinks failed at {step}: .*No space left .*The same command"):
        do_run(spec, settings, {**FUNCTIONS, step: fail})
    assert state(home)[0]["champion"] == 1
    with pytest.raises(RunError, match="has not ended with seed 0 instead of 1: give the same settings"), ExitStack():
        do_run(spec.model_copy(update={"seed": 1}), settings)
    if step == "promote":
        found = do_run(spec, settings)
        assert found is not None
        assert (found["run"], found["promoted"]) == (1, True)
        assert state(home)[0]["champion"] == 2
