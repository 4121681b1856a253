"""The commands as they are run: train, kill -9, train again, evaluate, export; and the same seed twice."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.settings import Settings
from rl import evaluate, export, train
from rl.artefacts.artefact import load, load_served
from rl.policies import SlateTransformerConfig, TransformerConfig
from rl.policies.transformer.config import QNetworkConfig
from rl.policy.queries import Query
from tests.support.modes import open_to_others

ROOT = Path(__file__).parents[2]
SHOP = [
    *(str(ROOT / "rl/experiments/shop_14k.toml"), "--dqn.learning_starts", "64", "--dqn.network.width", "16"),
    *("--dqn.train_batch_size_per_learner", "128", "--evaluation.episodes", "40", "--dqn.rounds_per_iteration", "8"),
]


@dataclass
class Killed:
    """A run that was killed after its first checkpoint and finished by a second process."""

    home: Path
    first: str
    """What the killed process said."""
    second: str
    report: dict[str, Any]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    home = tmp_path_factory.mktemp("home")
    environment = os.environ | {"RAYCOMMEND_HOME": str(home)}
    arguments = [*SHOP, "--name", "killed", "--env_steps", "2048", "--evaluation.every", "512"]
    command = [sys.executable, "-m", "rl.train", *arguments, "--checkpoint_every_s", "0"]
    with (home / "first").open("w") as said:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=said, stderr=said, start_new_session=True, umask=0o022
        )
        try:
            deadline = time.monotonic() + 300
            while not list((home / "runs/killed").glob("checkpoint-*[0-9]")):  # NAME.new: not complete yet
                assert process.poll() is None, (home / "first").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, umask=0o022)
    assert done.returncode == 0, done.stderr
    return Killed(home, (home / "first").read_text(), done.stderr, json.loads(done.stdout))


def test_a_killed_run_goes_on_from_its_checkpoint_to_the_right_total(killed: Killed) -> None:
    assert 64 <= killed.report["resumed_at"] < 2_048
    assert f"going on from {killed.report['resumed_at']:,} env steps" in killed.second
    assert killed.report["env_steps"] == 2_048
    assert [steps for steps, _ in killed.report["curve"]] == [512, 1_024, 1_536, 2_048]
    assert not list((killed.home / "runs/killed").glob("checkpoint*"))
    assert (killed.home / "runs/killed/curve.png").read_bytes().startswith(b"\x89PNG")


def test_what_a_run_writes_is_its_owners_alone(killed: Killed) -> None:
    assert (killed.home / "mlflow.db").is_file()
    assert open_to_others(killed.home) == []


def test_progress_is_told_before_anything_slow_and_with_the_time_left(killed: Killed) -> None:
    assert killed.second.startswith("killed: loading RLlib\n")
    last = next(line for line in killed.second.splitlines() if line.startswith("killed: 2,048/2,048 env steps"))
    assert all(word in last for word in ("evaluated ", "epsilon 0.05", " env steps/s", "ETA 0:00:00"))


def test_the_tracker_has_one_run_with_every_point_once(killed: Killed) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(Settings(home=killed.home).tracking_uri)
    experiment = client.get_experiment_by_name("killed")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_id == killed.report["mlflow_run"]
    assert (run.info.status, killed.report["mlflow_failures"]) == ("FINISHED", 0)
    for metric in ("epsilon", "env_steps_per_s"):
        assert [point.step for point in client.get_metric_history(run.info.run_id, metric)] == [*range(64, 2_049, 64)]
    evaluated = client.get_metric_history(run.info.run_id, "evaluation_return")
    assert [[point.step, point.value] for point in evaluated] == killed.report["curve"]
    epsilon = [point.value for point in client.get_metric_history(run.info.run_id, "epsilon")]
    np.testing.assert_allclose(epsilon, np.maximum(0.05, 1 - 0.95 * np.arange(64, 2_049, 64) / 512))
    assert run.data.params["dqn.network.width"] == "16"
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"curve.png", "experiment.toml", "policy"}


@pytest.fixture
def home(killed: Killed, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAYCOMMEND_HOME", str(killed.home))
    return killed.home


def test_the_artefact_plays_as_it_was_evaluated(killed: Killed, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artefact = load(home / "policies/killed")
    assert artefact.config == TransformerConfig(network=QNetworkConfig(width=16))
    assert evaluate.main([str(home / "policies/killed"), "--episodes", "1000"]) == 0
    row = json.loads(capsys.readouterr().out)["killed"]
    error = np.hypot(row["standard_error"], killed.report["standard_error"])
    assert abs(row["return"] - killed.report["evaluation_return"]) < 4 * error
    assert row["episodes"] == 1_000
    assert row["return"] > 3.219 + 4 * row["standard_error"]  # random's
    assert load_served(home / "policies/killed").encoder.items == tuple(str(number) for number in range(1, 11))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--since", "2011-10-01T00:00:00Z"], "has no catalogue: leave --since out"),
        (["--environment", "raycommend/Wheel-v0"], "killed was trained for 10 items, 0 features"),
        (["--environment", "raycommend/Moon-v0"], "there is no simulator 'raycommend/Moon-v0'"),
    ],
)
def test_what_cannot_be_evaluated_is_said(
    options: list[str], message: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([str(home / "policies/killed"), "--no-track", *options]) == 2
    assert message in capsys.readouterr().err


def test_the_exported_network_computes_the_same(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import onnxruntime  # type: ignore[import-untyped]

    from rl.policies.transformer.policy import TransformerPolicy
    from rl.simulators.registry import make

    assert export.main([str(home / "policies/killed"), "--out", str(tmp_path / "model")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["difference"] <= 1e-4
    assert report["outputs"] == ["q"]
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "arrays.safetensors",
        "model.onnx",
        "policy.json",
    ]
    session = onnxruntime.InferenceSession(tmp_path / "model/model.onnx")
    env = make("raycommend/Shop-v0", 9)
    observation, _ = env.reset(seed=1)
    for _ in range(5):
        observation, *_ = env.step(np.arange(9))
    query = Query.of(observation)
    asked = {
        "items": query.items.astype(np.int64),
        "mask": query.mask,
        "history": observation["history"].astype(np.int64),
    }
    policy = load(home / "policies/killed").policy
    assert isinstance(policy, TransformerPolicy)
    np.testing.assert_allclose(session.run(["q"], asked)[0], policy.expected(query), atol=1e-4)


# In this process, whose Ray is there already.


def trained(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert train.main([*arguments, "--no-track"]) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


@pytest.mark.slow
@pytest.mark.parametrize("runners", ["0", "1"])
def test_the_same_seed_gives_the_same_curve(
    runners: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_local: None, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAYCOMMEND_HOME", str(tmp_path))
    short = [*SHOP, "--env_steps", "512", "--evaluation.every", "128", "--runners", runners]
    one, again = (trained(capsys, *short, "--name", name, "--seed", "3") for name in ("one", "again"))
    assert len(one["curve"]) == 4
    assert one["curve"] == again["curve"]
    if runners == "0":
        assert trained(capsys, *short, "--name", "other", "--seed", "4")["curve"] != one["curve"]
    arrays = [load(tmp_path / "policies" / name).policy.state_dict() for name in ("one", "again")]
    assert all(np.array_equal(arrays[0][name], arrays[1][name]) for name in arrays[0])


def test_a_bandit_is_trained_evaluated_and_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_local: None, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAYCOMMEND_HOME", str(tmp_path))
    wheel = str(ROOT / "rl/experiments/wheel.toml")
    report = trained(capsys, wheel, "--env_steps", "2000", "--evaluation.every", "1000", "--evaluation.episodes", "500")
    assert report["env_steps"] == 2_000
    assert report["ceilings"]["random"] < report["evaluation_return"] < report["ceilings"]["oracle"] + 1
    assert evaluate.main([str(tmp_path / "policies/wheel"), "--episodes", "500", "--no-track"]) == 0
    assert json.loads(capsys.readouterr().out)["wheel"]["ceilings"] == report["ceilings"]
    assert export.main([str(tmp_path / "policies/wheel"), "--out", str(tmp_path / "out")]) == 0
    assert "theta" in json.loads(capsys.readouterr().out)["no_onnx"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["arrays.safetensors", "policy.json"]


@pytest.mark.slow
def test_slates_are_trained_evaluated_and_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_local: None, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAYCOMMEND_HOME", str(tmp_path))
    short = ["--env_steps", "640", "--evaluation.every", "320", "--evaluation.episodes", "20"]
    steps = ["--slate_q.n_step", "4", "--slate_q.learning_starts", "64", "--slate_q.rounds_per_iteration", "5"]
    report = trained(capsys, str(ROOT / "rl/experiments/interest_evolution.toml"), *short, *steps)
    assert [at for at, _ in report["curve"]] == [320, 640]
    assert report["ceilings"]["priced"] == 280.2
    folder = tmp_path / "policies/interest_evolution"
    config = load(folder).config
    assert isinstance(config, SlateTransformerConfig)
    assert (config.slate, config.network.added_scale) == (3, 4.0)
    assert evaluate.main([str(folder), "--episodes", "20", "--no-track"]) == 0
    row = json.loads(capsys.readouterr().out)["interest_evolution"]
    error = np.hypot(row["standard_error"], report["standard_error"])
    assert abs(row["return"] - report["evaluation_return"]) < 5 * error
    assert row["ceilings"] == report["ceilings"]
    assert export.main([str(folder), "--out", str(tmp_path / "out")]) == 0
    exported = json.loads(capsys.readouterr().out)
    assert exported["outputs"] == ["nothing", "added", "logits"]
    assert exported["difference"] <= 1e-4
    assert (tmp_path / "out/model.onnx").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--environment.name", "raycommend/Moon-v0"], "there is no simulator 'raycommend/Moon-v0'; there are"),
        (["--environment.options", '{"colour": 1}'], "unexpected keyword argument 'colour'"),
    ],
)
def test_an_experiment_without_its_simulator_is_refused(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RAYCOMMEND_HOME", str(tmp_path))
    assert train.main([*SHOP, *arguments]) == 2
    assert message in capsys.readouterr().err


OWN = """
kind = "dqn"
name = "corridor"
env_steps = 4000
envs_per_runner = 16
[environment]
name = "tests.support.own:Corridor"
options = {limit = 30}
[dqn]
network = {width = 16, layers = 0}
lr = 3e-3
tau = 0.05
env_steps_per_update = 8
[evaluation]
every = 4000
episodes = 4
envs = 4
"""


@pytest.mark.slow
def test_an_environment_of_ones_own_is_trained_evaluated_and_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_local: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """The best walk costs .1 twice and then pays 1. That nobody answers where it is to be registered loses nothing."""
    monkeypatch.setenv("RAYCOMMEND_HOME", str(tmp_path))
    (tmp_path / "own.toml").write_text(OWN)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert train.main([str(tmp_path / "own.toml"), "--register_as", "challenger"]) == 3
    answer = capsys.readouterr()
    report, folder = json.loads(answer.out), tmp_path / "policies/corridor"
    assert report["evaluation_return"] == pytest.approx(0.8)
    assert (report["registered"], report["mlflow_failures"]) == (None, 1)
    assert f"trained, the policy lies in {folder}; not registered: " in answer.err
    assert f"later: python -m rl.registry register {folder} --alias challenger" in answer.err
    assert evaluate.main([str(folder), "--episodes", "20", "--no-track"]) == 0
    row = json.loads(capsys.readouterr().out)["corridor"]
    assert (row["environment"], row["return"]) == ("tests.support.own:Corridor", pytest.approx(0.8))
    assert export.main([str(folder), "--out", str(tmp_path / "out"), "--opset", "20"]) == 0
    assert json.loads(capsys.readouterr().out)["opset"] == 20
    assert export.main([str(folder), "--out", str(tmp_path / "out"), "--opset", "9"]) == 2
    assert "opset must be between 18 and 22, got 9" in capsys.readouterr().err
