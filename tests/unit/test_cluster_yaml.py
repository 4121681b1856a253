"""cluster.yaml is what `ray up` accepts, and says what the design says."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from data.schema import RewardSpec
from serve.config import ServiceConfig

FILE = Path(__file__).parents[2] / "cluster.yaml"


@pytest.fixture
def cluster() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return loaded


def test_ray_accepts_it(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(cluster))


def test_ray_refuses_an_unknown_field(cluster: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="nonsense"):
        validate_config(prepare_config({**cluster, "nonsense": 1}))


def test_head_runs_no_work_and_gpus_are_only_started_when_needed(cluster: dict[str, Any]) -> None:
    types = cluster["available_node_types"]
    assert types[cluster["head_node_type"]]["resources"] == {"CPU": 0}
    assert types["worker"]["min_workers"] < types["worker"]["max_workers"]
    assert types["learner"]["min_workers"] == 0


def test_every_start_command_turns_token_authentication_on(cluster: dict[str, Any]) -> None:
    starts = [*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]
    for command in starts:
        assert "ray start" not in command or "RAY_AUTH_MODE=token" in command


def test_the_service_configuration_is_what_the_application_takes() -> None:
    application = yaml.safe_load((FILE.parent / "serve" / "config.yaml").read_text())["applications"][0]
    config = ServiceConfig(**application["args"])
    assert config.reward == RewardSpec()  # what rl.train learns for, if it is told nothing else
    assert {deployment["name"] for deployment in application["deployments"]} == {"Gateway", "Learner"}
