"""What `python -m rl.train` takes: a file, the command line over it, and an answer for what is wrong."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from data.features.customers import EncoderConfig
from rl import train
from rl.artefacts.artefact import load_served as load_artefact
from rl.config import parse_config
from rl.policies import (
    LinearThompsonConfig,
    LinUCBConfig,
    RFMBanditConfig,
    RidgeConfig,
)
from rl.policy.explorers import Votes
from rl.simulators.market.fitted import FittedMarketConfig
from rl.simulators.market.generated import GeneratedMarketConfig
from rl.training.kinds.retail import RetailExperiment

EXPERIMENTS = Path(train.__file__).parent / "experiments"

FILE = """
name = "trial"
decisions = 500
before = 2011-10-01T00:00:00Z

[policy]
kind = "lin_ucb"
alpha = 0.5
regularisation = 2.0

[market]
kind = "generated"
users = 40
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "trial.toml"
    path.write_text(FILE)
    return str(path)


def test_a_file_fills_the_fields(file: str) -> None:
    config = parse_config(RetailExperiment, [file])
    assert (config.name, config.decisions) == ("trial", 500)
    assert config.policy == LinUCBConfig(alpha=0.5, regularisation=2.0)
    assert config.market == GeneratedMarketConfig(users=40)
    assert config.before == datetime(2011, 10, 1, tzinfo=UTC)
    assert config.encoder == EncoderConfig()


def test_the_command_line_wins(file: str) -> None:
    config = parse_config(RetailExperiment, [file, "--decisions", "70", "--policy.alpha", "2", "--market.items", "20"])
    assert (config.name, config.decisions) == ("trial", 70)
    assert config.policy == LinUCBConfig(alpha=2.0, regularisation=2.0)
    assert config.market == GeneratedMarketConfig(users=40, items=20)


def test_the_rewards_are_those_of_the_file(tmp_path: Path) -> None:
    """What a shop does not name earns nothing: a purchase must not be worth 5 where the file rewards clicks alone."""
    path = tmp_path / "clicks.toml"
    path.write_text("reward.weights = { click = 1.0 }")
    assert parse_config(RetailExperiment, [str(path)]).reward.weights == {"click": 1.0}


def test_without_a_file() -> None:
    assert parse_config(RetailExperiment, []) == RetailExperiment()
    config = parse_config(
        RetailExperiment, ["--policy.kind", "ridge", "--policy.explorer.kind", "votes", "--slate_size", "3"]
    )
    assert config.policy == RidgeConfig(explorer=Votes())
    assert (config.slate_size, config.market) == (3, FittedMarketConfig())


def test_the_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    without = parse_config(RetailExperiment, [])
    for name in ("SEED", "DECISIONS"):
        monkeypatch.setenv(name, "77")
    assert parse_config(RetailExperiment, []) == without


def test_another_kind_on_the_command_line() -> None:
    config = parse_config(
        RetailExperiment,
        [str(EXPERIMENTS / "generated_shop.toml"), "--policy.kind", "rfm_bandit", "--policy.shrinkage", "9"],
    )
    assert config.policy == RFMBanditConfig(shrinkage=9)


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as exit_:
        parse_config(RetailExperiment, arguments)
    assert exit_.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("sed = 1", "sed: Extra inputs are not permitted, got 1"),
        ("seed = -1", "seed: Input should be greater than or equal to 0, got -1"),
        ("slate_size = 0", "slate_size: Input should be greater than or equal to 1, got 0"),
        ("source = 'dreams'", "source: Input should be 'simulator', 'log' or 'nothing', got 'dreams'"),
        ("encoder.rnk = 3", "encoder.rnk: Extra inputs are not permitted, got 3"),
        ("policy.kind = 'oracle'", "policy: Input tag 'oracle'"),
        ("policy = {kind = 'ridge', explorer = {kind = 'votes', floor = 2}}", "policy.ridge.explorer.votes.floor"),
        ("market = {kind = 'generated', click_rate = 1.0}", "market.generated.click_rate: Input should be less than 1"),
        ("before = 2011-10-01T00:00:00", "before: Input should have timezone info"),
    ],
)
def test_a_wrong_file_is_refused(line: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(line)
    assert message in refused([str(path)], capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sed", "1"], "unrecognized arguments: --sed 1"),
        (["--policy.foo", "1"], "unrecognized arguments: --policy.foo 1"),
        (["--seed", "-1"], "seed: Input should be greater than or equal to 0, got '-1'"),
        (["--slate_size", "many"], "slate_size: Input should be a valid integer"),
        (["--policy.kind", "rfm_bandit", "--policy.shrinkage", "0"], "policy.rfm_bandit.shrinkage: Input should be g"),
    ],
)
def test_a_wrong_command_line_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(arguments, capsys)


def test_all_mistakes_are_named_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(["--seed", "-1", "--decisions", "0"], capsys)
    assert [line.split(":")[0] for line in said.splitlines()] == ["decisions", "seed"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        (b"seed = = 1", "Invalid value"),
        (b'name = "caf\xe9"', "'utf-8' codec can't decode byte 0xe9"),
    ],
)
def test_an_unreadable_file_is_named(
    tmp_path: Path, content: bytes | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "experiment.toml"
    if content is not None:
        path.write_bytes(content)
    assert train.main([str(path)]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"rl.train: {path}: ")
    assert said in printed


# The command itself, on the smallest generated shop.

SMALL = [
    *("--no-track", "--market.kind", "generated"),
    *("--market.users", "20", "--market.items", "12", "--market.invoices", "200"),
]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAYCOMMEND_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.heavy
def test_training_reports_and_saves(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main([*SMALL, "--name", "tiny", "--decisions", "2001", "--slate_size", "3"]) == 0
    report = json.loads(capsys.readouterr().out)
    artefact = load_artefact(home / "policies" / "tiny")
    assert (report["name"], report["digest"]) == ("tiny", artefact.digest)
    assert artefact.config == LinearThompsonConfig()
    assert len(report["curve"]) == 3  # 2,001 decisions are 101 batches of 20: the last point is of the last one
    assert report["random"] < report["curve"][1] < report["oracle"]
    assert artefact.trained_on["encoder"] == artefact.encoder.version


def test_the_same_training_gives_the_same_policy(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = []
    for name, seed in (("one", "3"), ("again", "3"), ("other", "4")):
        train.main([*SMALL, "--name", name, "--decisions", "60", "--slate_size", "3", "--seed", seed])
        arrays.append(load_artefact(home / "policies" / name).policy.state_dict()["b"])
    assert np.array_equal(arrays[0], arrays[1])
    assert not np.array_equal(arrays[0], arrays[2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*SMALL, "--slate_size", "13"], "slate_size is 13, the catalogue has only 12 items"),
        ([*SMALL, "--encoder.rank", "12"], "rank 12 needs more than 12 items"),
        (["--source", "log"], "ingest"),
        ([], "ingest"),
        (["--node", "nosuch"], "nosuch"),
    ],
)
def test_what_cannot_be_trained_is_said(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "rl.train: " in said.err
    assert message in said.err


def test_only_the_folder_of_a_policy_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis.txt").write_text("years of work")
    assert train.main([*SMALL, "--out", str(tmp_path / "papers")]) == 2
    assert "papers holds something else than a policy and would be replaced" in capsys.readouterr().err
    assert train.main([*SMALL, "--out", str(tmp_path / "papers/thesis.txt")]) == 2
    assert (tmp_path / "papers" / "thesis.txt").read_text() == "years of work"


@pytest.mark.heavy
def test_a_training_is_tracked(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mlflow.tracking import MlflowClient

    arguments = ["--name", "tracked", "--decisions", "1500", "--slate_size", "3"]
    assert train.main([*SMALL[1:], *arguments]) == 0
    report = json.loads(capsys.readouterr().out)
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tracked")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    curve = client.get_metric_history(run.info.run_id, "return")
    assert [(point.step, point.value) for point in curve] == [(1_000, report["curve"][0]), (1_500, report["curve"][1])]
    assert run.data.params["market.users"] == "20"
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"experiment.toml", "policy"}
