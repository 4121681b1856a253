"""Offline evaluations and feature importances, in all dialects, on a log whose truth is known."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from data.log.store import Store
from data.settings import Settings
from rl.gate import conformance
from serve.api.personalizer.configuration.values import LOOP, REWARD
from serve.api.personalizer.evaluations.child import Task, run_child
from serve.api.personalizer.evaluations.contracts import Evaluation, EvaluationContract
from serve.api.personalizer.evaluations.table import Kept
from tests.support.clocks import NOON, Clock
from tests.support.gates import log_by_chance
from tests.support.personalizers import HEADERS, Loop, personalizer_loop

NEWEST, PREVIEW, STABLE = (
    "/personalizer{}?api-version=2022-09-01-preview",
    "/personalizer/v1.1-preview.3{}",
    "/personalizer/v1.0{}",
)
START, END = "2026-01-05T00:00:00Z", "2026-01-06T00:00:00Z"
N = 1_600
GREEDY = {"name": "greedy", "arguments": "--cb_explore_adf --epsilon 0.05 -q ::"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """Its policy is said to have ranked by chance: .3 a rank, where .6 is the most."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch, personalizer_loop(tmp_path_factory.mktemp("home"), clock) as loop:
        patch.setattr(conformance, "_TIMED", 50)
        digest = loop.served.at(LOOP).digest(LOOP)
        log_by_chance(loop.store, clock, digest, N, loop=LOOP, kind=REWARD, every_s=3.0)
        yield loop


@pytest.fixture(scope="module")
def client(loop: Loop) -> Iterator[TestClient]:
    with TestClient(loop.app, headers=HEADERS, raise_server_exceptions=False) as client:
        yield client


def asked(**fields: Any) -> dict[str, Any]:
    return {"name": "which", "startTime": START, "endTime": END} | fields


def finished(client: TestClient, url: str, running: str) -> dict[str, Any]:
    """Return what came of an evaluation when it is done."""
    deadline = time.monotonic() + 300
    while (found := client.get(url).json())["status"] == running:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return dict(found)


@pytest.fixture(scope="module")
def evaluated(client: TestClient) -> dict[str, Any]:
    """An evaluation of one policy that learns, in the newest dialect."""
    answer = client.put(NEWEST.format("/evaluations/one"), json=asked(policies=[GREEDY]))
    assert (answer.status_code, answer.json()["status"], answer.json()["evaluationType"]) == (200, "Running", "Manual")
    return finished(client, NEWEST.format("/evaluations/one") + f"&startTime={START}&endTime={END}", "Running")


def test_it_says_what_each_policy_would_have_earned(evaluated: dict[str, Any]) -> None:
    assert evaluated["status"] == "Succeeded", evaluated
    values = {one["policySource"]: one for one in evaluated["content"]["value"]}
    assert list(values) == ["Online", "Baseline", "Random", "Custom"]
    for source in ("Online", "Baseline", "Random"):
        low, high = values[source]["summary"]["confidenceInterval"]
        assert low < 0.3 < high
    assert values["Custom"]["summary"]["expectedReward"] > 0.35
    assert values["Custom"]["gate"]["promote"]
    assert not values["Baseline"]["gate"]["promote"]
    assert values["Custom"]["arguments"] == GREEDY["arguments"]
    assert evaluated["optimalPolicy"] == "greedy"
    points = values["Online"]["timeseries"]["data"]
    assert points[0]["timeStamp"] == "2026-01-05T12:30:00Z"
    assert points[0]["confidenceInterval"][0] < points[0]["expectedReward"] < points[0]["confidenceInterval"][1]


def test_the_older_dialects_have_the_same_in_sums(client: TestClient, evaluated: dict[str, Any]) -> None:
    for dialect, window in ((STABLE, "00:05:00"), (PREVIEW, "PT5M")):
        found = client.get(dialect.format("/evaluations/one")).json()
        assert (found["status"], found["evaluationType"], found["optimalPolicy"]) == ("completed", "Manual", "greedy")
        (custom,) = (one for one in found["policyResults"] if one["policySource"] == "Custom")
        total, parts = custom["totalSummary"], custom["summary"]
        assert total["aggregateTimeWindow"] == window
        assert total["ipsEstimatorDenominator"] == N - 500 == sum(one["ipsEstimatorDenominator"] for one in parts)
        assert total["ipsEstimatorNumerator"] == pytest.approx(sum(one["ipsEstimatorNumerator"] for one in parts))
        assert total["averageReward"] == total["ipsEstimatorNumerator"] / total["ipsEstimatorDenominator"]
        assert 0.3 < total["averageReward"] < 0.65
        assert sorted(found["featureImportance"]) == [["action.drink"], ["context.page"]]
    listed = client.get(STABLE.format("/evaluations")).json()
    assert [one["id"] for one in listed] == ["one"]
    page = client.get(NEWEST.format("/evaluations") + "&filter=evaluationType eq 'Auto'").json()
    assert page == {"value": []}


def test_who_is_let_through_can_be_applied_and_who_is_not_cannot(client: TestClient, evaluated: dict[str, Any]) -> None:
    apply = NEWEST.format("/configurations/applyFromEvaluation")
    refused = client.post(apply, json={"evaluationId": "one", "policyName": "nobody"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "EvaluationNotFound")
    assert client.post(apply, json={"evaluationId": "none", "policyName": "greedy"}).status_code == 404
    before = client.get(NEWEST.format("/configurations/policy")).json()
    assert before["name"] == "default"
    assert client.post(apply, json={"evaluationId": "one", "policyName": "greedy"}).status_code == 204
    assert client.get(NEWEST.format("/configurations/policy")).json() == GREEDY
    assert client.get(NEWEST.format("/evaluations/one")).json()["status"] == "OptimalPolicyApplied"
    assert client.get(STABLE.format("/evaluations/one")).json()["status"] == "optimalPolicyApplied"
    client.delete(NEWEST.format("/configurations/policy"))


def test_what_is_no_better_is_not_applied(client: TestClient, loop: Loop) -> None:
    """The same settings under another name, and ones that explore all the time."""
    worse = {"name": "worse", "arguments": "--cb_explore_adf --epsilon 1.0 -q ::"}
    made = client.post(PREVIEW.format("/evaluations"), json=asked(policies=[worse]))
    assert (made.status_code, made.json()["status"]) == (201, "pending")
    path = f"/evaluations/{made.json()['id']}"
    assert made.headers["location"] == PREVIEW.format(path)
    found = finished(client, made.headers["location"], "pending")
    assert (found["status"], found["optimalPolicy"]) == ("completed", "Online")
    body = {"evaluationId": found["id"], "policyName": "worse"}
    refused = client.post(PREVIEW.format("/configurations/applyFromEvaluation"), json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "InvalidApiAccess")
    assert refused.json()["error"]["message"].startswith("Not promoted, after 1,100 decisions")
    assert client.delete(PREVIEW.format(path)).status_code == 204
    assert client.get(PREVIEW.format(path)).json()["error"]["code"] == "EvaluationNotFound"
    assert client.delete(STABLE.format(path)).status_code == 404


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"name": "x", "startTime": START}, "InvalidEvaluationContract"),
        (asked(endTime=START), "InvalidEvaluationContract"),
        (asked(startTime="2020-01-01T00:00:00Z", endTime="2020-01-02T00:00:00Z"), "NoLogsExistInDateRange"),
        (asked(policies=[GREEDY, GREEDY]), "DuplicateCustomPolicyNames"),
        (asked(policies=[GREEDY | {"name": "Baseline"}]), "DuplicateCustomPolicyNames"),
        (asked(policies=[GREEDY | {"name": f"p{n}"} for n in range(11)]), "MaximumEvaluationCustomPoliciesExceeded"),
        (asked(policies=[{"name": "x", "arguments": "--cats 3"}]), "InvalidPolicyConfiguration"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(client: TestClient, body: dict[str, Any], code: str) -> None:
    answer = client.put(NEWEST.format("/evaluations/refused"), json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert client.get(NEWEST.format("/evaluations/refused")).status_code == 404


def test_an_id_is_used_once(client: TestClient, evaluated: dict[str, Any]) -> None:
    answer = client.put(NEWEST.format("/evaluations/one"), json=asked())
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "EvaluationAlreadyExists")


def test_what_nothing_came_of_says_why(client: TestClient) -> None:
    few = asked(startTime=NOON.isoformat(), endTime="2026-01-05T12:00:30Z")
    assert client.put(NEWEST.format("/evaluations/few"), json=few).status_code == 200
    found = finished(client, NEWEST.format("/evaluations/few"), "Running")
    assert found["status"] == "Failed"
    assert "too few decisions" in found["description"]


def test_the_work_is_done_by_a_process_of_its_own(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, store=None, archive=None)
    with closing(Store.open(settings.store_url)) as store:
        kept, now = Kept(store), store.now()
        contract = EvaluationContract(name="of nothing", start_time=now - timedelta(days=1), end_time=now)
        kept.create(Evaluation(id="e", asked=contract, created=now))
        run_child(Task(kind="evaluation", key="e", settings=settings))
        [done] = kept.evaluations()
    assert done.status == "Failed"
    assert "too few decisions" in (done.why or "")


def test_features_are_as_important_as_what_is_expected_depends_on_them(client: TestClient, loop: Loop) -> None:
    url = NEWEST.format("/featureImportances/f")
    assert client.put(url, json=asked()).json()["status"] == "Running"
    found = finished(client, url, "Running")
    assert (found["status"], found["name"]) == ("Succeeded", "which")
    scores = {(one["namespace"], one["featureName"]): one["score"] for one in found["featureScores"]}
    assert {*scores} == {("context", "page"), ("action", "drink")}
    assert max(scores.values()) == 1.0
    assert min(scores.values()) > 0.3
    assert client.put(url, json=asked()).json()["error"]["code"] == "FeatureImportanceAlreadyExists"
    assert [one["id"] for one in client.get(NEWEST.format("/featureImportances")).json()["value"]] == ["f"]
    assert client.delete(url).status_code == 204
    assert client.get(url).json()["error"]["code"] == "FeatureImportanceNotFound"


def test_better_settings_are_found_by_themselves(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Who had explored all the time is replaced, once, a day after it was asked for; others are not looked for yet."""
    clock = Clock()
    clock.advance(-3_600)
    with pytest.MonkeyPatch.context() as patch, personalizer_loop(tmp_path_factory.mktemp("home"), clock) as loop:
        patch.setattr(conformance, "_TIMED", 50)
        evaluations, configuration = loop.personalizer.evaluations, loop.personalizer.configuration
        assert asyncio.run(evaluations.optimize(configuration.current)) is None
        client = TestClient(loop.app, headers=HEADERS)
        service = client.get(NEWEST.format("/configurations/service")).json()
        assert not service["isAutoOptimizationEnabled"]
        wanted = service | {"isAutoOptimizationEnabled": True, "autoOptimizationFrequency": "P1D"}
        answer = client.put(NEWEST.format("/configurations/service"), json=wanted)
        assert (answer.status_code, answer.json()["autoOptimizationFrequency"]) == (200, "P1D")
        log_by_chance(loop.store, clock, loop.served.at(LOOP).digest(LOOP), N, loop=LOOP, kind=REWARD, every_s=3.0)
        assert asyncio.run(evaluations.optimize(configuration.current)) is None
        clock.advance(86_400)
        done = asyncio.run(evaluations.optimize(configuration.current))
        assert done is not None
        assert (done.kind, done.status) == ("Auto", "OptimalPolicyApplied")
        assert str(done.optimal).startswith("Optimized")
        assert client.get(NEWEST.format("/configurations/policy")).json()["name"] == done.optimal
        assert asyncio.run(evaluations.optimize(configuration.current)) is None  # it was done
        (listed,) = client.get(NEWEST.format("/evaluations") + "&filter=evaluationType eq 'Auto'").json()["value"]
        assert listed["status"] == "OptimalPolicyApplied"


def test_what_is_applied_replaces_what_it_was_compared_with(
    client: TestClient, evaluated: dict[str, Any], loop: Loop
) -> None:
    """Who has set another policy meanwhile is not overruled by a comparison with the one before."""
    apply, policy = NEWEST.format("/configurations/applyFromEvaluation"), NEWEST.format("/configurations/policy")
    body = {"evaluationId": "one", "policyName": "greedy"}
    wanted = {"name": "wanted", "arguments": "--cb_explore_adf --epsilon 0.3 -q ::"}
    assert client.put(policy, json=wanted).status_code == 200
    refused = client.post(apply, json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "InvalidApiAccess")
    assert "evaluate anew" in refused.json()["error"]["message"]
    assert client.get(policy).json() == wanted
    client.delete(policy)
    service = client.get(NEWEST.format("/configurations/service")).json()
    client.put(NEWEST.format("/configurations/service"), json=service | {"explorationPercentage": 0.2})
    assert client.post(apply, json=body).status_code == 204
    assert client.post(apply, json=body).status_code == 204  # what answers already is applied
    client.delete(policy)


def test_whoever_is_looked_at_again_under_an_id_that_was_used_is_another_look(loop: Loop) -> None:
    kept = Kept(loop.store)
    made = [
        Evaluation(id="again", asked=EvaluationContract(**asked()), created=NOON + timedelta(days=n), online="a" * 8)
        for n in range(3)
    ]
    for one in made:
        assert kept.create(one)
        kept.change(one.model_copy(update={"deleted": True}))
    assert [one.created for one in kept.all_evaluations() if one.online == "a" * 8] == [one.created for one in made]


def test_what_was_not_applied_as_its_process_ended_is_applied(tmp_path: Path) -> None:
    clock = Clock()
    clock.advance(-3_600)
    with pytest.MonkeyPatch.context() as patch, personalizer_loop(tmp_path, clock) as loop:
        patch.setattr(conformance, "_TIMED", 50)
        evaluations, configuration = loop.personalizer.evaluations, loop.personalizer.configuration
        client = TestClient(loop.app, headers=HEADERS)
        service = client.get(NEWEST.format("/configurations/service")).json()
        client.put(NEWEST.format("/configurations/service"), json=service | {"isAutoOptimizationEnabled": True})
        log_by_chance(loop.store, clock, loop.served.at(LOOP).digest(LOOP), N, loop=LOOP, kind=REWARD, every_s=3.0)
        clock.advance(8 * 86_400)

        async def end(_: object) -> None:
            raise KeyboardInterrupt

        with patch.context() as killed:
            killed.setattr(evaluations, "apply", end)
            with pytest.raises(KeyboardInterrupt):
                asyncio.run(evaluations.optimize(configuration.current))
        (one,) = Kept(loop.store).evaluations()
        assert one.status == "Succeeded"
        done = asyncio.run(evaluations.optimize(configuration.current))
        assert done is not None
        assert (done.id, done.status) == (one.id, "OptimalPolicyApplied")
