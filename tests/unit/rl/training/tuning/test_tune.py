"""The search: the space as Ray Tune draws it, and a search of three trials from end to end."""

import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from data.settings import Settings
from rl import tune
from rl.config import parse_config
from rl.training.kinds.dqn import DQNExperiment
from rl.training.tuning.search import Choice, Range

ROOT = Path(__file__).parents[5]
SEARCH = f"""
name = "tiny"
experiment = "{ROOT / "rl/experiments/shop_14k.toml"}"
samples = 3
max_concurrent = 1
grace = 128

[fixed]
env_steps = 384
"evaluation.every" = 128
"evaluation.episodes" = 16
"dqn.learning_starts" = 64
"dqn.rounds_per_iteration" = 16
"dqn.train_batch_size_per_learner" = 32

[search]
"dqn.lr" = {{ type = "float", low = 3e-4, high = 3e-3, log = true }}
"dqn.network.width" = {{ type = "choice", values = [4, 8] }}
"""


def test_draws_are_within_the_space() -> None:
    from rl.training.tuning.tuning import domain

    integers = {domain(Range(type="int", low=2, high=4)).sample() for _ in range(200)}
    assert integers == {2, 3, 4}
    logarithmic = [domain(Range(type="float", low=1e-4, high=1, log=True)).sample() for _ in range(400)]
    assert all(1e-4 <= value < 1 for value in logarithmic)
    assert 0.4 < sum(value < 1e-2 for value in logarithmic) / 400 < 0.6
    assert {domain(Choice(type="choice", values=("a", 1))).sample() for _ in range(100)} == {"a", 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("samples = 0", "samples: Input should be greater than or equal to 1"),
        ("sample = 3", "sample: Extra inputs are not permitted, got 3"),
        ("search.seed = { type = 'normal' }", "search.seed: Input tag 'normal'"),
        ("search.seed = { type = 'choice', values = [] }", "search.seed.choice.values"),
    ],
)
def test_a_wrong_search_is_refused(
    change: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong.toml").write_text(f"experiment = 'x.toml'\n{change}")
    with pytest.raises(SystemExit) as exit_:
        tune.main([str(tmp_path / "wrong.toml")])
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_a_path_through_a_value_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAYCOMMEND_HOME", str(tmp_path / "home"))
    (tmp_path / "search.toml").write_text(SEARCH.replace("dqn.lr", "env_steps.lr"))
    assert tune.main([str(tmp_path / "search.toml")]) == 2
    assert "env_steps.lr is within a field that is no table" in capsys.readouterr().err


@pytest.mark.slow
def test_a_search_finds_the_best_trial_and_tracks_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_local: None, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("RAYCOMMEND_HOME", str(tmp_path / "home"))
    (tmp_path / "search.toml").write_text(SEARCH)
    assert tune.main([str(tmp_path / "search.toml")]) == 0
    printed = capsys.readouterr().out
    found = tomllib.loads(printed)
    assert 3e-4 <= found["dqn"]["lr"] < 3e-3
    assert found["env_steps"] == 384

    (tmp_path / "best.toml").write_text(printed)
    assert isinstance(parse_config(DQNExperiment, [str(tmp_path / "best.toml")]), DQNExperiment)
    folder = tmp_path / "home/tunings/tiny"
    assert (folder / "best.toml").read_text() == printed
    assert (folder / "trials.png").read_bytes().startswith(b"\x89PNG")

    client = MlflowClient(Settings().tracking_uri)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == 3
    assert all(set(run.data.params) == {"dqn.lr", "dqn.network.width"} for run in children)
    through = [run for run in children if len(client.get_metric_history(run.info.run_id, "evaluation_return")) == 3]
    best = max(through, key=lambda run: run.data.metrics["evaluation_return"])
    assert best.data.params["dqn.lr"] == str(found["dqn"]["lr"])
    assert parent.data.metrics["evaluation_return"] == best.data.metrics["evaluation_return"]


@pytest.mark.heavy
@pytest.mark.slow
def test_a_killed_search_goes_on_with_the_trials_that_it_has_begun(tmp_path: Path) -> None:
    """The second process finds the killed one's trials: no parameters are drawn again, and none is lost."""
    (tmp_path / "search.toml").write_text(SEARCH)
    environment = os.environ | {"RAYCOMMEND_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "rl.tune", str(tmp_path / "search.toml"), "--no-track"]
    said = tmp_path / "first"
    with said.open("w") as stream:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=stream, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 300
            while "trial 1 of 3: 128 env steps" not in said.read_text():
                assert process.poll() is None, said.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            process.kill()
            process.wait()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    trials = sorted(path.name for path in (tmp_path / "tunings/tiny/runs").iterdir())
    assert len(trials) == 3
    assert len({name.rsplit("_", 1)[0] for name in trials}) == 1  # all of the search that was begun first
    started = [line for line in said.read_text().splitlines() if "trial 1 of 3: starts with" in line]
    assert started[0] in done.stderr
