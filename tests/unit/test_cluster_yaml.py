"""cluster.yaml is what `ray up` accepts, everywhere, and says what the design says."""

from typing import Any, get_args

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from data.reward import RewardSpec
from serve.config import ServiceConfig
from tests.support.cluster_files import PAGE, ROOT, Where, edits, read

PLACES: tuple[Where, ...] = get_args(Where)
CLOUDS = [place for place in PLACES if place != "local"]


@pytest.fixture(params=PLACES)
def cluster(request: pytest.FixtureRequest) -> dict[str, Any]:
    return read(request.param)


def start_commands(cluster: dict[str, Any]) -> list[str]:
    commands = [*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]
    return [command for command in commands if "ray start" in command]


def test_ray_accepts_it(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(cluster))


def test_ray_refuses_an_unknown_field(cluster: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="nonsense"):
        validate_config(prepare_config({**cluster, "nonsense": 1}))


@pytest.mark.parametrize("place", CLOUDS)
def test_workers_come_and_go_and_gpus_are_only_started_when_needed(place: Where) -> None:
    types = read(place)["available_node_types"]
    assert types["worker"]["min_workers"] < types["worker"]["max_workers"]
    assert types["learner"]["min_workers"] == 0
    assert 0 < read(place)["idle_timeout_minutes"] <= 15


@pytest.mark.parametrize("place", CLOUDS)
def test_a_cloud_is_told_that_the_head_runs_no_work(place: Where) -> None:
    cluster = read(place)
    assert cluster["available_node_types"][cluster["head_node_type"]]["resources"] == {"CPU": 0}


def test_the_head_runs_no_work_and_keeps_its_dashboard_to_itself(cluster: dict[str, Any]) -> None:
    (head,) = [command for command in start_commands(cluster) if "--head" in command]
    assert "--num-cpus=0" in head.split()
    assert "--dashboard-host=127.0.0.1" in head.split()


def test_every_shell_of_a_node_has_token_authentication_on(cluster: dict[str, Any]) -> None:
    assert "RAY_AUTH_MODE=token" in cluster["setup_commands"][-1]
    assert cluster["setup_commands"][-1].endswith(">> ~/.bashrc")
    assert cluster["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


def test_every_node_gets_the_secrets_from_a_file_and_haproxy(cluster: dict[str, Any]) -> None:
    assert len(start_commands(cluster)) == 2
    assert "~/.raycommend.env" in cluster["file_mounts"]
    for command in start_commands(cluster):
        before, _, _ = command.partition("ray start")
        assert "set -a; . ~/.raycommend.env &&" in before
        assert '$(python -m serve.environment --cluster) && eval "$variables" &&' in before


def test_code_is_synced_and_what_grows_is_not(cluster: dict[str, Any]) -> None:
    code = {path for path in cluster["file_mounts"].values() if not path.startswith("~")}
    assert code == {"data", "rl", "serve", "Makefile", "pyproject.toml", ".constraints.txt"}
    assert all((ROOT / path).exists() for path in code)


def test_the_page_says_how_to_choose_the_images() -> None:
    images = {group["node_config"]["ImageId"] for group in read("aws")["available_node_types"].values()}
    assert images == {"ami-of-ubuntu", "ami-with-driver"}
    assert all(f"s/{image}/$(image /aws/service/" in PAGE.read_text() for image in images)


def test_one_line_makes_the_workers_spot_instances_and_no_other_node() -> None:
    usual, spot = read("aws")["available_node_types"], read("spot")["available_node_types"]
    assert spot["worker"]["node_config"].pop("InstanceMarketOptions") == {"MarketType": "spot"}
    assert usual == spot


def test_the_edits_for_own_machines_change_nothing_but_where_and_the_autoscaler() -> None:
    (usual,) = [command for command in read("aws")["head_start_ray_commands"] if "ray start" in command]
    (own,) = [command for command in edits("local")["head_start_ray_commands"] if "ray start" in command]
    assert own.replace("RAY_enable_autoscaler_v2=0 ", "") == usual


def test_the_service_configuration_is_what_the_application_takes() -> None:
    application = yaml.safe_load((ROOT / "serve" / "config.yaml").read_text())["applications"][0]
    config = ServiceConfig(**application["args"])
    assert config.reward == RewardSpec()  # what rl.train learns for, if it is told nothing else
    assert {deployment["name"] for deployment in application["deployments"]} == {"Gateway", "Learner"}


def test_the_configuration_for_a_cluster_differs_in_where_it_runs_and_what_it_serves() -> None:
    here, there = (
        yaml.safe_load((ROOT / path).read_text()) for path in ("serve/config.yaml", "serve/deploy/service.yaml")
    )
    ServiceConfig(**there["applications"][0]["args"])
    assert (there["proxy_location"], there["http_options"]) == ("EveryNode", {"host": "0.0.0.0", "port": 8000})
    assert {name: there["applications"][0]["args"].pop(name) for name in ("policies", "champion", "archive")} == {
        "policies": {},
        "champion": {},
        "archive": {"hour": 3},
    }
    assert here["applications"][0]["args"].pop("policies")
    assert here["applications"] == there["applications"]
