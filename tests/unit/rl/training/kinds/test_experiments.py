"""Experiments: every file loads, one model describes each hyper-parameter, and a mistake is named."""

import tomllib
from pathlib import Path

import pytest
from pydantic_settings import CliApp

from rl import train
from rl.config import Config, parse_config
from rl.policies import SlateTransformerConfig
from rl.training.kinds.bandit import BanditExperiment
from rl.training.kinds.dqn import DQNExperiment
from rl.training.kinds.registry import (
    KINDS,
    UnknownKindError,
    find,
    kind_in,
)
from rl.training.kinds.slate_q import SlateQExperiment
from rl.training.run.errors import TrainingError
from rl.training.run.toml import dumps, flat
from rl.training.tuning.search import Tuning

EXPERIMENTS = Path(train.__file__).parent / "experiments"


def loaded(*arguments: str) -> Config:
    return parse_config(find(kind_in(arguments) or "retail").experiment, arguments)


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_experiment_loads(path: Path) -> None:
    experiment = loaded(str(path))
    assert experiment.resolved()["kind"] == tomllib.loads(path.read_text()).get("kind", "retail")


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("search/*.toml")), ids=lambda path: path.stem)
def test_every_search_loads_and_all_its_edges_are_allowed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXPERIMENTS.parents[1])
    parse_config(Tuning, [str(path)]).check()


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_resolved_file_describes_the_same_experiment(path: Path, tmp_path: Path) -> None:
    experiment = loaded(str(path))
    (tmp_path / "resolved.toml").write_text(dumps(experiment.resolved()))
    assert loaded(str(tmp_path / "resolved.toml")) == experiment


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ([], None),
        (["--help"], None),
        (["--seed", "3"], None),
        ([str(EXPERIMENTS / "shop.toml")], "dqn"),
        ([str(EXPERIMENTS / "shop.toml"), "--kind", "bandit"], "bandit"),
        (["--kind=bandit"], "bandit"),
        ([str(EXPERIMENTS / "online_retail.toml")], "retail"),
        (["nowhere.toml"], "retail"),
    ],
)
def test_the_kind_is_that_of_the_command_line_or_of_the_file(arguments: list[str], kind: str | None) -> None:
    assert kind_in(arguments) == kind


def test_an_unknown_kind_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnknownKindError, match="no kind of experiment 'dream'; there are retail, dqn, bandit"):
        find("dream")
    assert train.main(["--kind", "dream"]) == 2
    assert "'dream'" in capsys.readouterr().err


def test_help_lists_the_kinds_and_each_kind_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n  {kind} " in said for kind in KINDS)
    for kind, field in (
        ("retail", "--slate_size"),
        ("dqn", "--dqn.network.width"),
        ("bandit", "--bandit.policy.kind"),
        ("slate_q", "--slate_q.network.added_scale"),
    ):
        with pytest.raises(SystemExit) as exit_:
            train.main(["--kind", kind, "--help"])
        assert exit_.value.code == 0
        assert field in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dqn.sigma0", "1"], "unrecognized arguments: --dqn.sigma0 1"),
        (["--horizon", "1"], "unrecognized arguments: --horizon 1"),
        (["--dqn.lr", "0"], "dqn.lr: Input should be greater than 0"),
        (["--dqn.gamma", "1.5"], "dqn.gamma: Input should be less than or equal to 1"),
        (["--dqn.loss", "mae"], "dqn.loss: Input should be 'mse' or 'huber'"),
        (["--dqn.network.heads", "3"], "dqn.network: heads must divide the width"),
        (["--env_steps", "0"], "env_steps: Input should be greater than or equal to 1"),
        (["--evaluation.episodes", "1"], "evaluation.episodes: Input should be greater than or equal to 2"),
        (["--name", "../up"], "name: String should match pattern"),
    ],
)
def test_mistakes_on_the_command_line_are_kind_in(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse_config(DQNExperiment, arguments)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("dqn.noisy = true", "dqn.noisy: Extra inputs are not permitted, got True"),
        ("dqn.network.hiddens = [4]", "dqn.network.hiddens: Extra inputs are not permitted"),
        ("bandit.policy.kind = 'ridge'", "bandit: Extra inputs are not permitted"),
        ("envs = 3", "envs: Extra inputs are not permitted, got 3"),
    ],
)
def test_unknown_fields_of_a_file_are_kind_in(
    line: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong.toml").write_text(f"kind = 'dqn'\n{line}")
    with pytest.raises(SystemExit):
        loaded(str(tmp_path / "wrong.toml"))
    assert message in capsys.readouterr().err


@pytest.mark.heavy
def test_a_hyper_parameter_reaches_the_algorithm() -> None:
    experiment = CliApp.run(
        DQNExperiment, cli_args=["--env_steps", "500", "--seed", "7", "--runners", "2", "--dqn.lr", "2e-3"]
    )
    config = experiment.algorithm()
    assert config.hyperparameters is experiment.dqn
    assert config.lr == 2e-3
    assert (config.horizon, config.seed, config.num_env_runners, config.num_envs_per_env_runner) == (500, 7, 2, 64)
    config.validate()


@pytest.mark.parametrize(("options", "wanted"), [("", 1), ("--runners 2", 10), ("--runners 2 --fragment 3", 3)])
def test_runners_of_their_own_hand_over_several_steps_at_once(options: str, wanted: int) -> None:
    assert parse_config(DQNExperiment, options.split()).algorithm().rollout_fragment_length == wanted


def test_a_bandit_learns_from_every_step_before_the_next() -> None:
    config = parse_config(BanditExperiment, [str(EXPERIMENTS / "wheel.toml"), "--runners", "2"]).algorithm()
    assert config.rollout_fragment_length == 1


def test_slates_reach_the_algorithm_and_the_policy() -> None:
    experiment = parse_config(
        SlateQExperiment, [str(EXPERIMENTS / "interest_evolution.toml"), "--slate_q.network.width", "8"]
    )
    config, policy = experiment.algorithm(), experiment.policy_config()
    assert (config.choice_weight, config.n_step, config.network.added_scale) == (4.0, 160, 4.0)
    assert policy == SlateTransformerConfig(network=experiment.slate_q.network, slate=3)
    config.validate()


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ("raycommend/Shop-v0", "Shop-v0 takes one item at a time, no slates; kind slate_q cannot learn there"),
        ("raycommend/Retail-v0", "Retail-v0 does not tell what was chosen from a slate; kind slate_q cannot"),
    ],
)
def test_slates_need_a_simulator_of_slates(environment: str, message: str) -> None:
    experiment = parse_config(SlateQExperiment, ["--environment.name", environment])
    with pytest.raises(TrainingError, match=message):
        experiment.algorithm()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dqn.lr": {"type": "float", "low": -1.0, "high": 1.0}}, "dqn.lr: Input should be greater than 0, got -1.0"),
        ({"dqn.lrr": {"type": "float", "low": 0.1, "high": 1.0}}, "dqn.lrr: Extra inputs are not permitted"),
        ({"dqn.network.heads": {"type": "choice", "values": [2, 3]}}, "heads must divide the width"),
    ],
)
def test_a_search_of_what_is_not_allowed_is_refused(changes: dict[str, object], message: str) -> None:
    tuning = Tuning(experiment=EXPERIMENTS / "shop.toml", search=changes)
    with pytest.raises(TrainingError, match=message):
        tuning.check()


def test_a_search_needs_evaluations() -> None:
    search = {"seed": {"type": "choice", "values": [1]}}
    tuning = Tuning(experiment=EXPERIMENTS / "online_retail.toml", search=search)
    with pytest.raises(TrainingError, match="kind retail has no evaluation to search by"):
        tuning.check()


def test_toml_is_read_back_as_it_was() -> None:
    values = {
        "text": 'a "quoted" \\ line\nand é\x7f',
        "numbers": [1, -2.5, 1e-8, True],
        "table": {"x": 1, "deep": {"y": "z"}, "empty": {}},
        "odd key": {"in line": [{"a": 1}]},
    }
    assert tomllib.loads(dumps(values)) == values
    assert flat(values)["table.deep.y"] == "z"
    with pytest.raises(TypeError, match="no value for None"):
        dumps({"x": None})
