"""Configuration of the Personalizer loop: both forms of durations, documented rules, when a change counts, roles."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from fastapi.testclient import TestClient
from pydantic import JsonValue

from data.log.current.keys import Role, create
from data.log.current.settings_table import writing
from serve.api.personalizer.configuration import durations
from serve.api.personalizer.configuration.replica import copy_configuration
from serve.api.personalizer.configuration.vw_arguments import to_config
from tests.support.personalizers import HEADERS, Loop, actions, personalizer_loop

LATEST = "?api-version=2022-09-01-preview"
SERVICE, POLICY = (f"/personalizer/configurations/{name}{LATEST}" for name in ("service", "policy"))
STABLE = "/personalizer/v1.0/configurations/service"
GIVEN = {
    "rewardWaitTime": "PT1H30M",
    "defaultReward": -0.5,
    "rewardAggregation": "sum",
    "explorationPercentage": 0.1,
    "modelExportFrequency": "00:00:30",
    "logRetentionDays": 7,
    "modelRetrainDays": 2,
    "learningMode": "Online",
    "logMirrorEnabled": True,
    "logMirrorSasUri": "https://example.com/?sig=secret",
    "isAutoOptimizationEnabled": True,
    "lastConfigurationEditDate": "0001-01-01T00:00:00Z",
    "unknown": [1],
}


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    with personalizer_loop(tmp_path) as loop:
        yield loop


@pytest.fixture
def client(loop: Loop) -> TestClient:
    return TestClient(loop.app, headers=HEADERS)


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Of a loop that refuses whatever it is told."""
    with personalizer_loop(tmp_path_factory.mktemp("home")) as loop:
        yield TestClient(loop.app, headers=HEADERS)


@pytest.mark.parametrize(
    ("text", "duration", "iso", "span"),
    [
        ("PT10M", timedelta(minutes=10), "PT10M", "00:10:00"),
        ("00:10:00", timedelta(minutes=10), "PT10M", "00:10:00"),
        ("P1DT2H3M4.5S", timedelta(days=1, hours=2, minutes=3, seconds=4.5), "P1DT2H3M4.5S", "1.02:03:04.5000000"),
        (
            "1.02:03:04.5000000",
            timedelta(days=1, hours=2, minutes=3, seconds=4.5),
            "P1DT2H3M4.5S",
            "1.02:03:04.5000000",
        ),
        ("P2W", timedelta(days=14), "P14D", "14.00:00:00"),
        ("PT600S", timedelta(minutes=10), "PT10M", "00:10:00"),
        ("PT0S", timedelta(), "PT0S", "00:00:00"),
    ],
)
def test_durations(text: str, duration: timedelta, iso: str, span: str) -> None:
    assert durations.parse(text) == duration
    assert (durations.iso(duration), durations.time_span(duration)) == (iso, span)


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "10", "10:00", "00:99:00", "PT1H1", "-PT1M", 600, None, "P" + "9" * 30 + "D"]
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        durations.parse(text)


def test_defaults(client: TestClient) -> None:
    found = client.get(SERVICE).json()
    assert found == {
        "rewardWaitTime": "PT10M",
        "defaultReward": 0.0,
        "rewardAggregation": "earliest",
        "explorationPercentage": 0.2,
        "modelExportFrequency": "PT5M",
        "logRetentionDays": 90,
        "modelRetrainDays": 0,
        "learningMode": "Online",
        "lastConfigurationEditDate": "0001-01-01T00:00:00Z",
        "logMirrorEnabled": False,
        "isAutoOptimizationEnabled": False,
        "autoOptimizationFrequency": "P7D",
        "isInferenceExplainabilityEnabled": False,
    }
    oldest = client.get(STABLE).json()
    assert (oldest["rewardWaitTime"], oldest["modelExportFrequency"]) == ("00:10:00", "00:05:00")


def test_what_is_put_counts_and_lasts(client: TestClient, loop: Loop, tmp_path: Path) -> None:
    put = client.put(SERVICE, json=GIVEN)
    assert put.status_code == 200
    found = put.json()
    same = ("defaultReward", "rewardAggregation", "explorationPercentage", "logRetentionDays", "learningMode")
    assert {name: found[name] for name in same} == {name: GIVEN[name] for name in same}
    assert (found["rewardWaitTime"], found["modelExportFrequency"]) == ("PT1H30M", "PT30S")
    assert found["lastConfigurationEditDate"] > "2020"
    assert not found["logMirrorEnabled"]  # nothing is mirrored, so nothing says that it is
    assert "secret" not in put.text
    assert client.get(SERVICE).json() == found
    [plan] = loop.loops._plans()
    assert plan.spec.reward.model_dump(include={"wait_s", "default", "aggregation", "weights"}) == {
        "weights": {"reward": 1.0},
        "wait_s": 5400.0,
        "default": -0.5,
        "aggregation": "sum",
    }
    again = client.put(SERVICE, json=GIVEN).json()
    assert again == found  # not even the date has changed
    with personalizer_loop(tmp_path) as restarted:
        assert TestClient(restarted.app, headers=HEADERS).get(SERVICE).json() == found


def test_another_replica_reads_it_a_moment_later(client: TestClient, loop: Loop) -> None:
    other = copy_configuration(loop.store)
    client.put(SERVICE, json={**GIVEN, "learningMode": "Online"})
    assert loop.personalizer.configuration.current.service.exploration_percentage == 0.1
    assert other.current.service.exploration_percentage == 0.2
    other.refresh()
    assert other.current == loop.personalizer.configuration.current


@pytest.mark.parametrize(
    ("change", "code", "target"),
    [
        ({"rewardWaitTime": "PT4S"}, "InvalidServiceConfiguration", "rewardWaitTime"),
        ({"rewardWaitTime": "P2DT1S", "logRetentionDays": -1}, "InvalidServiceConfiguration", "rewardWaitTime"),
        ({"rewardWaitTime": "soon"}, "InvalidServiceConfiguration", "rewardWaitTime"),
        ({"rewardWaitTime": None}, "InvalidServiceConfiguration", "rewardWaitTime"),
        ({"defaultReward": 1.5}, "InvalidServiceConfiguration", "defaultReward"),
        ({"rewardAggregation": "latest"}, "InvalidServiceConfiguration", "rewardAggregation"),
        ({"explorationPercentage": 20}, "InvalidServiceConfiguration", "explorationPercentage"),
        ({"modelExportFrequency": "PT0S"}, "InvalidServiceConfiguration", "modelExportFrequency"),
        ({"autoOptimizationFrequency": "PT1M"}, "InvalidServiceConfiguration", "autoOptimizationFrequency"),
        ({"logRetentionDays": 0}, "InvalidLogRetentionDays", "logRetentionDays"),
        ({"logRetentionDays": 1}, "InvalidLogRetentionDays", "logRetentionDays"),
        ({"logRetentionDays": -2}, "InvalidServiceConfiguration", "logRetentionDays"),
        ({"modelRetrainDays": 8}, "InvalidServiceConfiguration", "modelRetrainDays"),
        ({"learningMode": "Expert"}, "InvalidServiceConfiguration", "learningMode"),
        ({"learningMode": "Apprentice"}, "InvalidLearningModeServiceConfiguration", "learningMode"),
        ({"learningMode": "LoggingOnly"}, "InvalidLearningModeServiceConfiguration", "learningMode"),
    ],
)
def test_what_cannot_be_configured(unchanged: TestClient, change: dict[str, Any], code: str, target: str) -> None:
    before = unchanged.get(SERVICE).json()
    response = unchanged.put(SERVICE, json={**GIVEN, **change})
    found = response.json()["error"]
    assert (response.status_code, found["code"], found["target"]) == (400, code, target)
    assert unchanged.get(SERVICE).json() == before
    oldest = unchanged.put(STABLE, json={**GIVEN, **change})
    assert oldest.json()["error"]["code"] == "BadRequest"


def test_a_learning_mode_is_changed_alone_and_stays_where_none_is_given(client: TestClient) -> None:
    now = client.get(SERVICE).json()
    assert client.put(SERVICE, json={**now, "learningMode": "apprentice"}).json()["learningMode"] == "Apprentice"
    later = {name: value for name, value in GIVEN.items() if name != "learningMode"}
    assert client.put(SERVICE, json=later).json()["learningMode"] == "Apprentice"


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("mode", "logged"), [("Online", "explore"), ("Apprentice", "apprentice"), ("LoggingOnly", "log")]
)
def test_the_learning_mode_counts_at_once_and_is_logged(client: TestClient, loop: Loop, mode: str, logged: str) -> None:
    client.put(SERVICE, json={**client.get(SERVICE).json(), "learningMode": mode})
    body: dict[str, Any] = {"actions": actions(*"abcd"), "excludedActions": ["a"]}
    for number in range(10):
        answer = client.post("/personalizer/v1.0/rank", json={**body, "eventId": str(number)}).json()
        decision = loop.store.decision(f"personalizer:{number}")
        assert decision is not None
        assert decision.mode == logged
        if mode != "Online":
            assert answer["rewardActionId"] == "b"
            assert [one["probability"] for one in answer["ranking"]] == [0, 1, 0, 0]
    places = [{"id": "1", "baselineAction": "c"}, {"id": "2", "baselineAction": "a"}]
    answer = client.post("/personalizer/v1.1-preview.3/multislot/rank", json={**body, "slots": places}).json()
    if mode != "Online":
        assert [slot["rewardActionId"] for slot in answer["slots"]] == ["c", "a"]


DEFAULT = "--cb_explore_adf --bag 4 --epsilon {} -q ::"


def test_the_learning_policy_and_the_exploration_percentage_are_one(client: TestClient, loop: Loop) -> None:
    assert client.get(POLICY).json() == {"name": "default", "arguments": DEFAULT.format(0.2)}
    client.put(SERVICE, json={**GIVEN, "explorationPercentage": 0.05})
    assert client.get(POLICY).json()["arguments"] == DEFAULT.format(0.05)
    mine = {"name": "mine", "arguments": "--cb_explore_adf --squarecb --epsilon=0.3 -q wa", "unknown": 1}
    put = client.put(POLICY, json=mine)
    assert put.status_code == 200
    assert put.json() == {"name": "mine", "arguments": mine["arguments"]}
    assert client.get(POLICY).json() == put.json()
    assert client.get(SERVICE).json()["explorationPercentage"] == 0.3
    loop.learn()
    config = loop.served.at("personalizer").artefact("personalizer").config
    assert config == to_config("--cb_explore_adf --squarecb --epsilon 0.3 -q wa")
    client.put(SERVICE, json={**GIVEN, "explorationPercentage": 0.25})
    assert client.get(POLICY).json()["arguments"] == "--cb_explore_adf --squarecb --epsilon 0.25 -q wa"
    less = {"name": "less", "arguments": "--cb_explore_adf"}
    assert client.put(POLICY, json=less).json() == client.get(POLICY).json() == less
    reset = client.delete(POLICY)
    assert (reset.status_code, reset.json()) == (200, {"name": "default", "arguments": DEFAULT.format(0.25)})
    loop.learn()
    assert loop.loops.problems == {}


QUADRATICS = " ".join(f"--quadratic {pair}" for pair in ("GT", "MR", "GR", "ME", "OT", "OE", "OR", "MS", "GX"))


FAULTS = Path(__file__).parents[4] / "faults"


@pytest.mark.heavy
@pytest.mark.parametrize(
    "arguments",
    [  # what the tests of Azure's clients set, and what the service began with
        json.loads((FAULTS / "06-policy-ignore.json").read_bytes())["arguments"],
        f"--cb_explore_adf {QUADRATICS} --ignore A --cb_type ips --epsilon 0.2",
        "--cb_explore_adf --epsilon 0.2 --dsjson --cb_type ips -l 0.5 --l1 1E-07 --power_t 0.5",
        "--cb_explore_adf --epsilon 0.2 --power_t 0 -l 0.001 --cb_type mtr -q ::",
        "--ccb_explore_adf --epsilon 0.20 --power_t 0 -l 0.001 --cb_type mtr -q ::",
        "--cb_explore_adf --epsilon=2e-1 --marginal i --csoaa_ldf multiline --keep G --keep T -q GT",
    ],
)
def test_the_policies_of_azures_clients_are_taken_and_answered_as_put(
    client: TestClient, loop: Loop, arguments: str
) -> None:
    policy = {"name": "app1", "arguments": arguments}
    put = client.put(POLICY, json=policy)
    assert (put.status_code, put.json()) == (200, policy)
    assert client.get(POLICY).json() == policy
    loop.learn()
    assert loop.loops.problems == {}
    assert loop.served.at("personalizer").artefact("personalizer").config == to_config(arguments)


@pytest.mark.parametrize(
    ("policy", "code", "message"),
    [
        (
            {"name": "x", "arguments": "--epsilon 0.1"},
            "InvalidPolicyConfiguration",
            "The learning policy must contain --cb_explore_adf or --cats.",
        ),
        ({"name": "x", "arguments": "--cb_explore_adf --warp 9"}, "InvalidPolicyConfiguration", "--warp"),
        ({"name": "x", "arguments": "--cb_explore_adf --epsilon 2"}, "InvalidPolicyConfiguration", "less than"),
        ({"name": "x", "arguments": "--cb_explore_adf --bag nan"}, "InvalidPolicyConfiguration", "--bag must be above"),
        ({"name": "x", "arguments": "--cb_explore_adf --bag 9e5"}, "InvalidPolicyConfiguration", "--bag Input should"),
        ({"name": "x", "arguments": ""}, "InvalidPolicyContract", "at least 1"),
        ({"name": "x"}, "InvalidPolicyContract", "Field required"),
        ({"arguments": "--cb_explore_adf"}, "InvalidPolicyContract", "Field required"),
    ],
)
def test_what_is_no_learning_policy(unchanged: TestClient, policy: Any, code: str, message: str) -> None:
    before = unchanged.get(POLICY).json()
    response = unchanged.put(POLICY, json=policy)
    assert (response.status_code, response.json()["error"]["code"]) == (400, code)
    said = response.json()["error"]["message"]
    assert message in said
    assert not re.search(r"\b(rl|serve|data)\.", said), "a caller has HTTP, not our modules"
    assert unchanged.get(POLICY).json() == before


@pytest.mark.heavy
def test_a_policy_that_an_earlier_version_took_does_not_stop_the_service(
    client: TestClient, loop: Loop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept: dict[str, JsonValue] = {"name": "old", "arguments": "--cb_explore_adf --bag 1000000 --epsilon 0.2"}
    with writing(loop.store) as settings:
        settings.append("personalizer.policy", kept, loop.store.now())
    with personalizer_loop(tmp_path) as again:
        config = again.served.at("personalizer").artefact("personalizer").config
        assert config == to_config(DEFAULT.format(0.2))
        assert "'old' cannot be followed" in caplog.text
        restarted = TestClient(again.app, headers=HEADERS)
        assert restarted.post("/personalizer/v1.0/rank", json={"actions": actions("a", "b")}).status_code == 201
        assert restarted.get(POLICY).json() == kept
        assert restarted.put(POLICY, json={**kept, "arguments": DEFAULT.format(0.2)}).status_code == 200


def test_a_decision_is_shown_with_what_it_earns_in_its_own_loop(client: TestClient) -> None:
    client.post("/personalizer/v1.0/rank", json={"eventId": "ev", "actions": actions("a", "b")})
    for value in (1, -0.25):
        client.post("/personalizer/v1.0/events/ev/reward", json={"value": value})

    def earned() -> list[float]:
        rewards: list[float] = client.get("/v1/decisions/personalizer:ev").json()["rewards"]
        return rewards

    assert earned() == [1.0]
    client.put(SERVICE, json={**GIVEN, "rewardAggregation": "sum"})
    assert earned() == [0.75]
    # feedback of v1 is none of the Personalizer loop's: it is kept, and is not what is learned from
    client.post("/v1/feedback", json={"decision_id": "personalizer:ev", "kind": "reward", "value": 9})
    assert earned() == [0.75]
    client.put(SERVICE, json={**GIVEN, "defaultReward": -0.5})
    client.post("/personalizer/v1.0/rank", json={"eventId": "none", "actions": actions("a", "b")})
    assert client.get("/v1/decisions/personalizer:none").json()["rewards"] == [-0.5]


def test_keys_have_roles(loop: Loop) -> None:
    for role in get_args(Role):
        token = create(loop.store, role, role)
        loop.keys.refresh()
        client = TestClient(loop.app, headers={"Ocp-Apim-Subscription-Key": token})
        rank = client.post("/personalizer/v1.0/rank", json={"actions": actions("a")})
        read, write = client.get(SERVICE), client.put(SERVICE, json=client.get(SERVICE).json())
        allowed = {"node": (201, 200, 403), "reader": (403, 200, 403), "admin": (201, 200, 200)}[role]
        assert (rank.status_code, read.status_code, write.status_code) == allowed
        if role == "node":
            assert write.json()["error"]["code"] == "InvalidApiAccess"
            for method, path in (("GET", "/model"), ("PUT", "/model"), ("DELETE", "/model"), ("DELETE", "/logs")):
                assert client.request(method, f"/personalizer{path}{LATEST}").status_code == 403
