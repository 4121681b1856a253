"""MLflow: what is logged is there, once, and a tracker that fails is not the training's problem."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from data.settings import Settings
from rl.registry import RegistryError, resolve_alias
from rl.training.run import tracking_client
from rl.training.run.curve import draw_curve
from rl.training.run.progress import format_progress
from rl.training.run.tracking import Tracker

RESOLVED = {"name": "shop", "dqn": {"lr": 0.001, "network": {"width": 8}}}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, mlflow_tables: Path) -> Settings:
    """One home for all."""
    home = tmp_path_factory.mktemp("home")
    shutil.copy(mlflow_tables, home)
    return Settings(home=home)


def client(settings: Settings) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(settings.tracking_uri)


def history(settings: Settings, run_id: str | None, metric: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client(settings).get_metric_history(run_id, metric)]


@pytest.mark.heavy
def test_a_run_has_metrics_by_steps_parameters_and_files(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "policy.json").write_text("{}")
    with Tracker(settings, "shop", RESOLVED) as tracker:
        tracker.log(64, {"return": 3.0, "loss": float("nan")})
        tracker.log(128, {"return": 4.0})
        tracker.files(tmp_path / "policy", "policy")
    run = client(settings).get_run(tracker.run_id)
    assert history(settings, tracker.run_id, "return") == [(64, 3.0), (128, 4.0)]
    assert "loss" not in run.data.metrics
    assert run.data.params == {"name": "shop", "dqn.lr": "0.001", "dqn.network.width": "8"}
    assert run.info.status == "FINISHED"
    assert len(run.data.tags["mlflow.source.git.commit"]) == 40
    files = settings.home / "mlartifacts" / "shop" / run.info.run_id / "artifacts"
    assert (files / "policy" / "policy.json").read_text() == "{}"
    assert "width = 8" in (files / "experiment.toml").read_text()
    assert tracker.failures == 0


def fail_after(tracker: Tracker) -> None:
    tracker.log(10, {"return": 1.0})
    tracker.log(20, {"return": 2.0, "evaluation_return": 5.0})
    raise ZeroDivisionError


@pytest.mark.heavy
def test_a_continued_run_is_the_same_and_has_every_point_once(settings: Settings) -> None:
    first = Tracker(settings, "shop", RESOLVED, run="abc")
    with pytest.raises(ZeroDivisionError), first:
        fail_after(first)
    assert client(settings).get_run(first.run_id).info.status == "FAILED"
    with Tracker(settings, "shop", RESOLVED, run="abc") as second:
        for step in (10, 20, 30):  # the curve of the checkpoint, and what follows
            second.log(step, {"return": step / 10, "evaluation_return": 5.0})
    assert second.run_id == first.run_id
    assert history(settings, first.run_id, "return") == [(10, 1.0), (20, 2.0), (30, 3.0)]
    assert history(settings, first.run_id, "evaluation_return") == [(20, 5.0), (30, 5.0)]
    assert client(settings).get_run(first.run_id).info.status == "FINISHED"


@pytest.mark.heavy
def test_a_trial_is_shown_under_its_search(settings: Settings) -> None:
    with Tracker(settings, "search", {}) as parent, Tracker(settings, "search", {}, parent=parent) as child:
        pass
    tags = client(settings).get_run(child.run_id).data.tags
    assert tags["mlflow.parentRunId"] == parent.run_id


@pytest.mark.heavy
def test_a_tracker_that_fails_does_not_end_a_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("no folder")
    with Tracker(Settings(home=tmp_path / "file"), "shop", RESOLVED) as tracker:
        tracker.log(1, {"return": 1.0})
    assert tracker.failures > 0
    assert tracker.run_id is None
    assert "MLflow: " in capsys.readouterr().err


def test_an_inactive_tracker_writes_nothing(tmp_path: Path) -> None:
    with Tracker(Settings(home=tmp_path), "shop", RESOLVED, active=False) as tracker:
        tracker.log(1, {"return": 1.0})
    assert (tracker.run_id, list(tmp_path.iterdir())) == (None, [])


def test_mlflows_own_variable_names_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert settings.tracking_uri == f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert settings.tracking_files == tmp_path / "mlartifacts"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker:5000")
    assert Settings(home=tmp_path).tracking_uri == "http://tracker:5000"
    assert Settings(home=tmp_path).tracking_files is None
    # A database says not where files are, and MLflow would put them into the working directory.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'elsewhere' / 'mlflow.db'}")
    assert Settings(home=tmp_path).tracking_files == tmp_path / "elsewhere" / "mlartifacts"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+psycopg://host/mlflow")
    assert Settings(home=tmp_path).tracking_files == tmp_path / "mlartifacts"


def test_the_curve_is_a_picture(tmp_path: Path) -> None:
    curve = [
        {"env_steps": 10, "return": 1.0},
        {"env_steps": 20, "return": 2.0, "evaluation_return": 3.0, "evaluation_standard_error": 0.1},
    ]
    draw_curve(tmp_path / "curve.png", "shop", curve, {"random": 1.0, "oracle": 4.0})
    draw_curve(tmp_path / "empty.png", "shop", [], {})
    for name in ("curve.png", "empty.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_progress_is_told_in_one_line() -> None:
    values = {"return": 5.123, "evaluation_return": 7.9, "epsilon": 0.8125, "env_steps_per_s": 2_310.4, "loss": 1.0}
    assert format_progress(12_800, 200_000, values) == (
        "12,800/200,000 env steps  return 5.123  evaluated 7.900  epsilon 0.812  2,310 env steps/s  ETA 0:01:21"
    )
    assert format_progress(0, 10, {"return": float("nan")}) == "0/10 env steps"


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://me:secret@127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking_client, "ANSWER_WITHIN_S", 0.3)
    monkeypatch.setattr(tracking_client, "_SAID_AFTER_S", 0.05)


@pytest.mark.heavy
def test_who_is_waited_for_is_said_and_given_up(
    silent: str, impatient: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RegistryError, match=r"nobody answers there within 0.3 s \(no answer in time\)") as error:
        resolve_alias(Settings(home=tmp_path, tracking=silent))
    assert caplog.messages == [f"waiting for MLflow at {silent.replace('me:secret@', '')}"]
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("down", ["http://127.0.0.1:9", "silent"])
def test_a_run_that_nobody_tracks_is_told_at_once_and_holds_nothing_up(
    down: str, silent: str, impatient: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = time.monotonic()
    with Tracker(Settings(home=tmp_path, tracking=silent if down == "silent" else down), "shop", RESOLVED) as tracker:
        tracker.log(64, {"return": 3.0})
        tracker.files(tmp_path)
    assert time.monotonic() - start < 30  # most of it is the import of mlflow
    assert (tracker.failures, tracker.run_id) == (1, None)
    told = capsys.readouterr().err.splitlines()
    assert any("this run is not tracked: NoAnswerError: nobody answers there" in line for line in told)
    assert not any("secret" in line for line in told)


@pytest.mark.heavy
def test_a_server_that_is_gone_is_asked_before_it_is_given_more(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes after the run was opened: the first write fails in its own time, the others at once."""
    calls, tried = list[str](), Event()

    def gone(*_: Any, **__: Any) -> None:
        calls.append("write")
        tried.set()
        raise ConnectionError("refused")

    def nobody(uri: str) -> None:
        calls.append("asked")
        raise tracking_client.NoAnswerError("nobody answers there")

    with Tracker(settings, "shop", RESOLVED) as tracker:
        assert tracker._opened.wait(300)
        monkeypatch.setattr(tracker._client, "log_batch", gone)
        monkeypatch.setattr("rl.training.run.tracking.check_answers", nobody)
        tracker.log(64, {"return": 3.0})
        assert tried.wait(60)
        tracker.files(settings.home / "none")
    assert calls == ["write", "asked", "asked"]  # a metric, the files, the end of the run
    assert tracker.failures == 3
    assert tracker.error == "ConnectionError: refused"


_OPENS = """
import sys
from mlflow.tracking import MlflowClient
from rl.training.run.tracking_client import tracking_client
print(flush=True)
sys.stdin.readline()
print(len(tracking_client(sys.argv[1]).search_experiments()))
"""


@pytest.mark.slow
def test_several_who_open_a_new_file_at_once_make_its_tables_once(tmp_path: Path) -> None:
    """As a training does that has just begun, and a console which shows it."""
    command = [sys.executable, "-c", _OPENS, Settings(home=tmp_path / "home").tracking_uri]
    processes = [
        subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()  # it has imported MLflow
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120) for process in processes]
    assert [out.strip() for out, _ in said] == ["1", "1", "1"], [err[-600:] for _, err in said]
