"""The official Python clients of Personalizer, unmodified, over real HTTP: what they do, and what their retries do."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from azure.ai.personalizer import PersonalizerAdministrationClient, PersonalizerClient
from azure.cognitiveservices.personalizer import PersonalizerClient as StableClient
from azure.cognitiveservices.personalizer.models import ErrorResponseException, RankableAction, RankRequest
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from msrest.authentication import CognitiveServicesCredentials
from msrest.exceptions import HttpOperationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.api.personalizer.configuration.values import LOOP, REWARD
from tests.support.clocks import NOON, Clock
from tests.support.gates import log_by_chance
from tests.support.personalizers import KEY, Loop, actions, over_http, personalizer_loop
from tests.support.rows import count_rows


class Unlucky:
    """Answers the first of each request with an error: instead of handling it, or after it was handled."""

    def __init__(self, app: ASGIApp, status: int, *, handled: bool) -> None:
        self._app, self._status, self._handled = app, status, handled
        self.seen = Counter[tuple[str, str]]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        request = scope["method"], scope["path"]
        self.seen[request] += 1
        if self.seen[request] > 1:
            return await self._app(scope, receive, send)
        if self._handled:

            async def drop(message: Message) -> None:
                pass

            await self._app(scope, receive, drop)
        headers = [(b"content-type", b"application/json"), (b"retry-after", b"0")]
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"error": {"code": "X", "message": "unlucky"}}'})


@contextmanager
def served(home: Path) -> Iterator[tuple[str, Loop]]:
    with personalizer_loop(home) as loop, over_http(loop.app) as url:
        yield url, loop


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Loop]]:
    with served(tmp_path_factory.mktemp("home")) as service:
        yield service


def client(url: str, key: str = KEY) -> Any:  # its methods are added where type checkers do not look
    return PersonalizerClient(url, AzureKeyCredential(key), retry_backoff_factor=0.01)


def administration(url: str) -> Any:
    return PersonalizerAdministrationClient(url, AzureKeyCredential(KEY), retry_backoff_factor=0.01)


def stable(url: str, key: str = KEY) -> Any:
    make: Any = StableClient  # none of its functions has types
    return make(url, CognitiveServicesCredentials(key))


def stable_actions(*ids: str) -> list[Any]:
    return [RankableAction(id=one, features=[{"kind": one}]) for one in ids]


def test_the_stable_client(service: tuple[str, Loop]) -> None:
    url, loop = service
    asking = stable(url)
    request = RankRequest(
        actions=stable_actions("a", "b", "c"),
        context_features=[{"weather": "snowy"}],
        excluded_actions=["b"],
        event_id="stable",
        defer_activation=True,
    )
    answer = asking.rank(rank_request=request)
    assert answer.event_id == "stable"
    assert answer.reward_action_id in ("a", "c")
    assert sum(one.probability for one in answer.ranking) == pytest.approx(1)
    assert {one.id: one.probability for one in answer.ranking}["b"] == 0
    assert asking.events.activate(event_id="stable") is None
    assert asking.events.reward(event_id="stable", value=0.5) is None
    reports = loop.store.feedback_of(["personalizer:stable"])["personalizer:stable"]
    assert [(report.kind, report.value) for report in reports] == [("activate", 1.0), ("reward", 0.5)]


def test_the_stable_client_understands_our_errors(service: tuple[str, Loop]) -> None:
    url, _ = service
    with pytest.raises(ErrorResponseException) as refused:
        stable(url).rank(rank_request=RankRequest(actions=stable_actions("a", "a")))
    found: Any = refused.value.error
    assert (found.error.code, found.error.message) == ("BadRequest", "Action ids must be unique.")
    with pytest.raises(HttpOperationError) as unrewarded:
        stable(url).events.reward(event_id="e", value=1e10)
    assert unrewarded.value.response.status_code == 400
    with pytest.raises(ErrorResponseException) as refused:
        stable(url, "wrong").rank(rank_request=RankRequest(actions=stable_actions("a")))
    assert refused.value.response.status_code == 401


def test_the_new_client(service: tuple[str, Loop]) -> None:
    url, loop = service
    body = {
        "actions": actions("a", "b", "c"),
        "contextFeatures": [{"weather": "snowy"}],
        "excludedActions": ["b"],
        "eventId": "new",
        "deferActivation": True,
    }
    with client(url) as asking:
        answer = asking.rank(body)
        assert answer["eventId"] == "new"
        assert answer["rewardActionId"] in ("a", "c")
        assert asking.activate("new") is None
        assert asking.reward("new", {"value": 1}) is None
        places = [{"id": "top", "baselineAction": "a"}, {"id": "side", "baselineAction": "b"}]
        many = asking.rank_multi_slot({"actions": actions("a", "b"), "slots": places, "eventId": "many"})
        assert [slot["id"] for slot in many["slots"]] == ["top", "side"]
        assert sorted(slot["rewardActionId"] for slot in many["slots"]) == ["a", "b"]
        assert asking.activate_multi_slot("many") is None
        assert asking.reward_multi_slot("many", {"reward": [{"slotId": "side", "value": 1}]}) is None
    reports = loop.store.feedback_of(["personalizer:new", "personalizer:many"])
    assert [(f.item_id, f.kind) for f in reports["personalizer:new"]] == [(None, "activate"), (None, "reward")]
    assert [(f.item_id, f.kind) for f in reports["personalizer:many"]] == [(None, "activate"), ("side", "reward")]


def test_the_new_client_understands_our_errors(service: tuple[str, Loop]) -> None:
    url, _ = service
    with pytest.raises(HttpResponseError) as refused:
        client(url).rank({"actions": []})
    assert refused.value.status_code == 400
    assert refused.value.error is not None
    assert refused.value.error.code == "InvalidRankRequest"
    with pytest.raises(ClientAuthenticationError):
        client(url, "wrong").rank({"actions": actions("a")})


def test_the_administration_client(tmp_path: Path) -> None:
    with served(tmp_path) as (url, loop), administration(url) as admin, client(url) as asking:
        with pytest.raises(ResourceNotFoundError):
            admin.get_log_properties()
        now = admin.get_service_configuration()
        assert now["learningMode"] == "Online"
        changed = admin.update_service_configuration({**now, "explorationPercentage": 0.1, "rewardWaitTime": "PT1M"})
        assert (changed["explorationPercentage"], changed["rewardWaitTime"]) == (0.1, "PT1M")
        assert admin.get_policy()["name"] == "default"
        assert admin.update_policy({"name": "mine", "arguments": "--cb_explore_adf --bag 4 -q ::"})["name"] == "mine"
        assert admin.reset_policy()["name"] == "default"
        asking.rank({"actions": actions("a"), "eventId": "e"})
        dates = admin.get_log_properties()["dateRange"]
        assert dates["from"] == dates["to"]
        assert set(admin.get_model_properties()) == {"creationTime", "lastModifiedTime"}
        model = b"".join(admin.export_model(signed=True))
        admin.import_model(BytesIO(model))
        with pytest.raises(HttpResponseError) as refused:
            admin.import_model(BytesIO(b"".join(admin.export_model())))
        assert refused.value.error is not None
        assert refused.value.error.code == "InvalidModelImportSignature"
        admin.reset_model()
        admin.delete_logs()
        assert count_rows(loop.store)["decisions"] == 0
        assert list(admin.list_evaluations()) == []
        with pytest.raises(HttpResponseError) as refused:
            admin.create_evaluation("one", {"name": "one", "startTime": dates["from"], "endTime": dates["to"]})
        assert refused.value.error is not None
        assert refused.value.error.code == "InvalidEvaluationContract"
        with pytest.raises(ResourceNotFoundError):
            admin.get_feature_importance("x")


@pytest.mark.slow
def test_the_administration_client_evaluates(tmp_path: Path) -> None:
    """Create, list, get, apply and delete; the same of feature importances."""
    clock = Clock()
    with personalizer_loop(tmp_path, clock) as loop:
        log_by_chance(loop.store, clock, loop.served.at(LOOP).digest(LOOP), 1_600, loop=LOOP, kind=REWARD, every_s=3.0)
        with over_http(loop.app) as url, administration(url) as admin:
            dates = {"startTime": "2026-01-05T00:00:00Z", "endTime": "2026-01-06T00:00:00Z"}
            greedy = {"name": "greedy", "arguments": "--cb_explore_adf --epsilon 0.05 -q ::"}
            admin.create_evaluation("one", {"name": "which", "policies": [greedy], **dates})
            admin.create_feature_importance("f", {"name": "what", **dates})
            start, end = NOON - timedelta(days=1), NOON + timedelta(days=1)
            deadline = time.monotonic() + 300
            while (found := admin.get_evaluation("one", start_time=start, end_time=end))["status"] == "Running":
                assert time.monotonic() < deadline
                time.sleep(0.2)
            assert (found["status"], found["optimalPolicy"]) == ("Succeeded", "greedy")
            rolling = admin.get_evaluation(
                "one", start_time=start, end_time=end, interval_in_minutes=60, window="Rolling"
            )
            assert len(rolling["content"]["value"][0]["timeseries"]["data"]) in (1, 2)
            assert [one["id"] for one in admin.list_evaluations(top=1)] == ["one"]
            admin.apply_from_evaluation({"evaluationId": "one", "policyName": "greedy"})
            assert admin.get_policy() == greedy
            admin.delete_evaluation("one")
            assert list(admin.list_evaluations()) == []
            while (found := admin.get_feature_importance("f"))["status"] == "Running":
                assert time.monotonic() < deadline
                time.sleep(0.2)
            assert {one["featureName"] for one in found["featureScores"]} == {"page", "drink"}
            assert [one["id"] for one in admin.list_feature_importances()] == ["f"]
            admin.delete_feature_importance("f")


def test_a_configuration_counts_by_itself(tmp_path: Path) -> None:
    with served(tmp_path) as (url, _), administration(url) as admin, client(url) as asking:
        for _ in range(10):
            asking.reward(asking.rank({"actions": actions("a")})["eventId"], {"value": 1})
        admin.update_service_configuration({**admin.get_service_configuration(), "explorationPercentage": 0.5})
        deadline = time.monotonic() + 20
        while True:
            answer = asking.rank({"actions": actions("a", "b")})
            if answer["ranking"][1]["probability"] >= 0.25 and answer["ranking"][0]["id"] == "a":
                break
            assert time.monotonic() < deadline


@pytest.mark.slow
@pytest.mark.parametrize("handled", [False, True], ids=["lost", "answer lost"])
@pytest.mark.parametrize("status", [500, 503])
def test_a_retry_changes_nothing(tmp_path: Path, status: int, handled: bool) -> None:
    with personalizer_loop(tmp_path) as loop:
        app = Unlucky(loop.app, status, handled=handled)
        with over_http(app) as url, client(url) as asking, administration(url) as admin:
            admin.update_service_configuration({**admin.get_service_configuration(), "rewardAggregation": "sum"})
            body = {"actions": actions("a", "b"), "eventId": "e"}
            answer = asking.rank(body)
            assert asking.rank(body) == answer
            asking.reward("e", {"value": 1})
            asking.activate("e")
            places = [{"id": "s", "baselineAction": "a"}]
            many = {**body, "slots": places, "eventId": "m"}
            assert asking.rank_multi_slot(many) == asking.rank_multi_slot(many)
            asking.reward_multi_slot("m", {"reward": [{"slotId": "s", "value": 1}]})
            model = b"".join(admin.export_model(signed=True))
            admin.import_model(BytesIO(model))
        assert all(count >= 2 for count in app.seen.values())
        counts = count_rows(loop.store)
        assert (counts["decisions"], counts["feedback"]) == (2, 3)
        decision = loop.store.decision("personalizer:e")
        assert decision is not None
        assert decision.slate == (answer["rewardActionId"],)
        assert loop.personalizer.configuration.current.service.reward_aggregation == "sum"


@pytest.mark.parametrize("status", [500, 503])
def test_a_retry_of_the_stable_client_changes_nothing(tmp_path: Path, status: int) -> None:
    with personalizer_loop(tmp_path) as loop:
        app = Unlucky(loop.app, status, handled=True)
        with over_http(app) as url:
            request = RankRequest(actions=stable_actions("a", "b"), event_id="e")
            for _ in range(2):  # whether it tries again by itself or its user does
                with suppress(ErrorResponseException):
                    answer = stable(url).rank(rank_request=request)
                with suppress(HttpOperationError):
                    stable(url).events.reward(event_id="e", value=1.0)
        assert all(count >= 2 for count in app.seen.values())
        decision = loop.store.decision("personalizer:e")
        assert decision is not None
        assert decision.slate == (answer.reward_action_id,)
        assert (count_rows(loop.store)["decisions"], count_rows(loop.store)["feedback"]) == (1, 1)
