"""The Personalizer API over a real store: each operation in each dialect, documented errors, what a retry does."""

import json
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from data.feature_objects import FeatureError
from data.log.errors import StoreUnavailable
from data.log.writer.commit import StoreBusy
from data.schema import Features
from serve.api.personalizer.rank import MAX_ACTIONS
from serve.decisions.served import Served
from tests.support.personalizers import Loop, actions
from tests.support.rows import count_rows

LATEST = "api-version=2022-09-01-preview"
DIALECTS = ("/personalizer/v1.0{}", "/personalizer/v1.1-preview.3{}", "/personalizer{}?" + LATEST)
STABLE, PREVIEW, NEWEST = DIALECTS


@pytest.fixture
def event() -> str:
    return f"{uuid4()}/ü {{}}"


def path_of(event: str) -> str:
    return f"/events/{quote(event, safe='')}"


def reports(loop: Loop, event: str) -> list[tuple[str | None, str, float]]:
    found = loop.store.feedback_of([f"personalizer:{event}"]).get(f"personalizer:{event}", [])
    assert all(one.loop == "personalizer" for one in found)
    return [(one.item_id, one.kind, one.value) for one in found]


@pytest.fixture(params=DIALECTS)
def url(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def error(response: Any) -> dict[str, Any]:
    body = response.json()
    assert set(body) == {"error"}
    found: dict[str, Any] = body["error"]
    assert set(found) <= {"code", "message", "target"}
    return found


def slots(*places: tuple[str, str, list[str]]) -> list[dict[str, Any]]:
    return [{"id": one, "baselineAction": base, "excludedActions": excluded} for one, base, excluded in places]


def test_a_rank_is_in_the_log_when_it_is_answered(client: TestClient, loop: Loop, url: str, event: str) -> None:
    body = {
        "contextFeatures": [{"weather": "snowy", "place": {"town": "x", "size": 3}}, {"sizes": [1, 2.5]}, None],
        "actions": [
            {"id": "a", "features": [{"hot": True}, {"price": 1.5}]},
            {"id": "b", "features": [{"hot": False}]},
        ],
        "eventId": event,
        "unknown": 1,
    }
    response = client.post(url.format("/rank"), json=body)
    answer = response.json()
    assert response.status_code == 201
    assert set(answer) == {"ranking", "eventId", "rewardActionId"}
    assert answer["eventId"] == event
    decision = loop.store.decision(f"personalizer:{event}")
    assert decision is not None
    assert (decision.loop, decision.policy, decision.mode) == ("personalizer", "personalizer", "explore")
    assert decision.candidates == ("a", "b")
    assert decision.slate == (answer["rewardActionId"],)
    logged = dict(zip(decision.candidates, decision.probabilities, strict=True))
    assert {one["id"]: one["probability"] for one in answer["ranking"]} == logged
    assert decision.propensities == (logged[answer["rewardActionId"]],)
    assert decision.features is not None
    assert decision.features.context == ({"weather": "snowy", "place": {"town": "x", "size": 3}}, {"sizes": [1, 2.5]})
    assert decision.features.items == (({"hot": True}, {"price": 1.5}), ({"hot": False},))


def test_excluded_actions_keep_their_places_with_probability_0(client: TestClient, loop: Loop, event: str) -> None:
    body = {"actions": actions(*"abcde"), "excludedActions": ["a", "d", "nowhere"], "eventId": event}
    ranking = client.post(STABLE.format("/rank"), json=body).json()["ranking"]
    assert sorted(one["id"] for one in ranking) == list("abcde")
    assert [(place, one["id"]) for place, one in enumerate(ranking) if one["probability"] == 0] == [(0, "a"), (3, "d")]
    assert sum(one["probability"] for one in ranking) == pytest.approx(1)
    decision = loop.store.decision(f"personalizer:{event}")
    assert decision is not None
    assert decision.candidates == ("b", "c", "e")


def test_the_chosen_action_comes_first_of_those_that_are_not_excluded(client: TestClient) -> None:
    for _ in range(20):
        body = {"actions": actions(*"abcd"), "excludedActions": ["a"]}
        answer = client.post(STABLE.format("/rank"), json=body).json()
        rest = [one for one in answer["ranking"] if one["id"] != "a"]
        assert rest[0]["id"] == answer["rewardActionId"]
        probabilities = [one["probability"] for one in rest[1:]]
        assert max(probabilities[1:]) <= probabilities[0] or rest[0]["probability"] <= min(probabilities)


def test_the_same_rank_is_answered_as_it_was_and_another_by_its_event_id_is_refused(
    client: TestClient, loop: Loop, event: str
) -> None:
    given = [{"id": name, "features": [{"a": 1, "b": name, "c": {"d": 2.5, "e": True}}]} for name in "abc"]
    body = {
        "actions": given,
        "contextFeatures": [{"x": 3, "y": {"z": [1, 2]}}, {}],
        "excludedActions": ["b"],
        "eventId": event,
    }
    first = client.post(STABLE.format("/rank"), json=body)
    before = count_rows(loop.store)
    swapped = [{"features": [{"c": {"e": True, "d": 2.5}, "b": name, "a": 1.0}], "id": name, "?": 1} for name in "abc"]
    same = [
        {**body, "deferActivation": False},
        {**body, "actions": swapped, "contextFeatures": [{"y": {"z": [1.0, 2]}, "x": 3}]},
    ]
    for again in (body, *same):
        for dialect in (STABLE, NEWEST):
            assert client.post(dialect.format("/rank"), json=again).json() == first.json()
    others: list[tuple[dict[str, Any], str]] = [
        ({"actions": actions("x")}, "actions, excludedActions"),
        ({"actions": given[::-1]}, "actions"),
        (
            {"actions": [{"id": "a", "features": [{"a": True, "b": "a", "c": {"d": 2.5, "e": True}}]}, *given[1:]]},
            "actions",
        ),
        ({"contextFeatures": [{"x": 4, "y": {"z": [1, 2]}}]}, "contextFeatures"),
        ({"contextFeatures": None}, "contextFeatures"),
        ({"excludedActions": ["a"]}, "excludedActions"),
        ({"excludedActions": None, "deferActivation": True}, "excludedActions, deferActivation"),
    ]
    for change, fields in others:
        response = client.post(NEWEST.format("/rank"), json={**body, **change})
        assert (response.status_code, error(response)["code"]) == (409, "EventIdConflict")
        assert error(response)["target"] == "eventId"
        assert error(response)["message"] == f"EventId names another rank already, which differs in {fields}."
    assert count_rows(loop.store) == before


def test_a_known_event_is_answered_even_if_it_could_not_be_now(
    client: TestClient, loop: Loop, monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    body = {"actions": actions(*"abc"), "eventId": event}
    first = client.post(STABLE.format("/rank"), json=body)
    monkeypatch.setattr(loop.personalizer, "_served", Served({}))
    assert client.post(STABLE.format("/rank"), json=body).json() == first.json()
    other = client.post(STABLE.format("/rank"), json={**body, "eventId": event + "2"})
    assert (other.status_code, error(other)["code"], other.headers["Retry-After"]) == (503, "OperationNotAllowed", "1")


def test_without_an_event_id_each_rank_is_an_event_of_its_own(client: TestClient, loop: Loop, url: str) -> None:
    ids = {client.post(url.format("/rank"), json={"actions": actions("a")}).json()["eventId"] for _ in range(3)}
    assert len(loop.store.decisions_by_id([f"personalizer:{one}" for one in ids])) == 3


def test_many_actions_are_fine(client: TestClient) -> None:
    body = {"actions": actions(*(str(number) for number in range(MAX_ACTIONS)))}
    answer = client.post(STABLE.format("/rank"), json=body)
    assert answer.status_code == 201
    assert sum(one["probability"] for one in answer.json()["ranking"]) == pytest.approx(1)


def test_a_reward_is_logged_once(client: TestClient, loop: Loop, url: str, event: str) -> None:
    for value in (1, 1.0, 1, 0.5):
        response = client.post(url.format(path_of(event) + "/reward"), json={"value": value, "unknown": 0})
        assert (response.status_code, response.content) == (204, b"")
    assert reports(loop, event) == [(None, "reward", 1.0), (None, "reward", 0.5)]


def test_what_became_of_reports_is_counted_as_that_of_other_interfaces(client: TestClient, event: str) -> None:
    def counts() -> dict[str, int]:
        found: dict[str, int] = client.get("/v1/learning").json()["reports"]
        return found

    before = counts()
    ranked = client.post(STABLE.format("/rank"), json={"actions": actions("a", "b"), "eventId": event})
    assert (ranked.status_code, ranked.json()["eventId"]) == (201, event)
    for _ in range(3):
        assert client.post(STABLE.format(f"{path_of(event)}/reward"), json={"value": 1}).status_code == 204
    assert client.post(STABLE.format(f"{path_of(event)}x/reward"), json={"value": 1}).status_code == 204
    found = {name: count - before[name] for name, count in counts().items()}
    assert found == {"stored": 2, "duplicate": 2, "contradictory": 0, "orphan": 1}


def test_an_activation_is_logged_once(client: TestClient, loop: Loop, url: str, event: str) -> None:
    for _ in range(2):
        response = client.post(url.format(path_of(event) + "/activate"))
        assert (response.status_code, response.content) == (204, b"")
    assert reports(loop, event) == [(None, "activate", 1.0)]


@pytest.mark.parametrize("url", [PREVIEW, NEWEST])
def test_slots_are_filled_and_rewarded_by_their_ids(client: TestClient, loop: Loop, url: str, event: str) -> None:
    places: list[dict[str, Any]] = [
        {"id": "top", "baselineAction": "a", "features": [{"size": "large"}], "positionFeatures": [{}]},
        {"id": "side", "baselineAction": "b", "excludedActions": ["a"]},
    ]
    body = {
        "contextFeatures": [{"weather": "sunny"}],
        "actions": actions("a", "b", "c"),
        "slots": places,
        "eventId": event,
    }
    response = client.post(url.format("/multislot/rank"), json=body)
    assert response.status_code == 201
    answer = response.json()
    assert answer["eventId"] == event
    assert [slot["id"] for slot in answer["slots"]] == ["top", "side"]
    shown = [slot["rewardActionId"] for slot in answer["slots"]]
    assert len(set(shown)) == 2
    assert shown[1] != "a"
    decision = loop.store.decision(f"personalizer:{event}")
    assert decision is not None
    assert list(decision.slate) == shown
    assert [slot["probability"] for slot in answer["slots"]] == list(decision.propensities)
    assert client.post(url.format("/multislot/rank"), json=body).json() == answer
    fewer = client.post(url.format("/multislot/rank"), json={**body, "slots": places[:1]})
    assert (fewer.status_code, error(fewer)["target"]) == (409, "eventId")
    assert error(fewer)["message"].endswith("differs in slots.")
    reward = {"reward": [{"slotId": "side", "value": 1}, {"slotId": "top", "value": 0.25}, {"slotId": "?", "value": 1}]}
    for _ in range(2):
        assert client.post(url.format(f"/multislot{path_of(event)}/reward"), json=reward).status_code == 204
    assert client.post(url.format(f"/multislot{path_of(event)}/activate")).status_code == 204
    assert reports(loop, event) == [
        ("side", "reward", 1),
        ("top", "reward", 0.25),
        ("?", "reward", 1),
        (None, "activate", 1),
    ]


@pytest.mark.heavy
def test_slots_that_can_be_filled_are_filled_whatever_is_drawn(client: TestClient) -> None:
    for _ in range(30):  # drawn for itself alone, the first slot would often take what the last needs
        places = slots(("1", "a", []), ("2", "b", []), ("3", "c", ["a", "b"]))
        body = {"actions": actions(*"abc"), "slots": places}
        response = client.post(PREVIEW.format("/multislot/rank"), json=body)
        assert response.status_code == 201
        assert response.json()["slots"][2]["rewardActionId"] == "c"


def test_an_event_has_slots_or_it_has_none(client: TestClient) -> None:
    one = {"actions": actions("a", "b"), "eventId": "one"}
    many = {**one, "slots": slots(("s", "a", [])), "eventId": "many"}
    assert client.post(NEWEST.format("/rank"), json=one).status_code == 201
    assert client.post(NEWEST.format("/multislot/rank"), json=many).status_code == 201
    for path, body in (("/rank", {**one, "eventId": "many"}), ("/multislot/rank", {**many, "eventId": "one"})):
        response = client.post(NEWEST.format(path), json=body)
        assert (response.status_code, error(response)["target"]) == (409, "eventId")
        assert error(response)["message"].endswith("differs in slots.")


def test_an_event_id_that_is_another_interfaces_decision(client: TestClient, loop: Loop, event: str) -> None:
    client.post(STABLE.format("/rank"), json={"actions": actions("a"), "eventId": event})
    decision = loop.store.decision(f"personalizer:{event}")
    assert decision is not None
    loop.store.insert([decision.model_copy(update={"decision_id": f"personalizer:{event}2", "loop": "v1"})])
    response = client.post(NEWEST.format("/rank"), json={"actions": actions("a"), "eventId": event + "2"})
    assert (response.status_code, error(response)["code"]) == (409, "EventIdConflict")


BAD = {"id": "a", "features": [{"f": 1}]}
COUNT = f"Action count should be between 1 and {MAX_ACTIONS}."
FEATURE = "Every action should have at least one non-null action feature."
NUMBER = "[0].f must be a number from -1e+15 to 1e+15, got"
BASELINE = "Each slot must contain a unique BaselineAction with an ID corresponding to an element of Actions."


@pytest.mark.parametrize(
    ("path", "body", "code", "message", "target"),
    [
        ("/rank", {"actions": []}, "InvalidRankRequest", COUNT, "actions"),
        ("/rank", {"actions": [BAD] * (MAX_ACTIONS + 1)}, "InvalidRankRequest", COUNT, "actions"),
        (
            "/rank",
            {"actions": actions("a", "")},
            "InvalidRankRequest",
            "Action ids must not be empty.",
            "actions[1].id",
        ),
        ("/rank", {"actions": actions("a" * 257)}, "InvalidRankRequest", None, "actions[0].id"),
        ("/rank", {"actions": actions("a", "a")}, "InvalidRankRequest", "Action ids must be unique.", "actions"),
        ("/rank", {"actions": [{"id": "a", "features": []}]}, "InvalidRankRequest", FEATURE, "actions[0].features"),
        ("/rank", {"actions": [{"id": "a", "features": [{"f": None}, None]}]}, "InvalidRankRequest", FEATURE, None),
        (
            "/rank",
            {"actions": [BAD, {"id": "b", "features": [{"f": 1.7e308}]}]},
            "InvalidRankRequest",
            f"actions.1.features: {NUMBER} 1.7e+308",
            "actions.1.features",
        ),
        (
            "/rank",
            {"actions": [BAD], "contextFeatures": [{"f": 10**400}]},
            "InvalidRankRequest",
            f"contextFeatures: {NUMBER} an integer that no float holds",
            "contextFeatures",
        ),
        (
            "/multislot/rank",
            {"actions": [BAD], "slots": [{"id": "s", "baselineAction": "a", "features": [{"f": -1e16}]}]},
            "InvalidRankRequest",
            f"slots.0.features: {NUMBER} -1e+16",
            "slots.0.features",
        ),
        (
            "/rank",
            {"actions": [BAD], "eventId": ""},
            "InvalidRankRequest",
            "EventId should be non-empty or null.",
            None,
        ),
        ("/rank", {"actions": [BAD], "eventId": "e" * 257}, "InvalidRankRequest", None, "eventId"),
        ("/rank", {"actions": [BAD], "excludedActions": ["a"]}, "InvalidRankRequest", None, "excludedActions"),
        ("/rank", {"actions": [{"id": 1, "features": [{}]}]}, "InvalidRankRequest", None, "actions.0.id"),
        ("/rank", {}, "InvalidRankRequest", "actions: Field required", "actions"),
        ("/rank", [], "InvalidRankRequest", None, None),
        ("/events/e/reward", {}, "InvalidRewardRequest", "value: Field required", "value"),
        ("/events/e/reward", {"value": "1"}, "InvalidRewardRequest", None, "value"),
        ("/events/e/reward", {"value": 1e10}, "InvalidRewardRequest", None, "value"),
        (f"/events/{'e' * 257}/reward", {"value": 1}, "InvalidRewardRequest", None, "eventId"),
        (f"/events/{'e' * 257}/activate", None, "InvalidEventIdToActivate", None, "eventId"),
        ("/multislot/events/e/reward", {"reward": []}, "InvalidRewardRequest", None, "reward"),
        ("/multislot/events/e/reward", {"reward": [{"slotId": "", "value": 1}]}, "InvalidRewardRequest", None, None),
    ],
)
def test_what_is_wrong_is_said_in_the_documented_words(
    client: TestClient, loop: Loop, path: str, body: Any, code: str, message: str | None, target: str | None
) -> None:
    before = count_rows(loop.store)
    headers = {"content-type": "application/json"}
    content = None if body is None else json.dumps(body)
    for url, said in ((NEWEST, code), (PREVIEW, code), (STABLE, "BadRequest")):
        if url is STABLE and path.startswith("/multislot"):
            continue
        response = client.post(url.format(path), content=content, headers=headers)
        found = error(response)
        assert (response.status_code, found["code"]) == (400, said)
        assert message in (None, found["message"])
        assert target in (None, found.get("target"))
    assert count_rows(loop.store) == before


def test_what_a_policy_cannot_encode_is_no_fault_of_ours(
    client: TestClient, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise FeatureError("must be a number", "a.b")

    monkeypatch.setattr("serve.decisions.recommender.Recommender.decide", fail)
    response = client.post(NEWEST.format("/rank"), json={"actions": [BAD]})
    found = error(response)
    assert (response.status_code, found["code"]) == (400, "InvalidRankRequest")
    assert found["message"] == "a.b must be a number"


def test_lists_of_anything_are_features(client: TestClient, loop: Loop) -> None:
    lists = {"tags": ["hot", "sweet"], "b": [True], "o": [{"x": 1}], "l": [[1]], "m": [1, "a", None]}
    body = {"actions": [{"id": "a", "features": [lists]}], "contextFeatures": [lists], "eventId": "lists"}
    assert client.post(NEWEST.format("/rank"), json=body).status_code == 201
    logged = loop.store.decision("personalizer:lists")
    assert logged is not None
    assert logged.features == Features(context=(lists,), items=((lists,),))


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ([], "Slots count should be between 1 and the number of actions"),
        (
            slots(("1", "a", []), ("2", "b", []), ("3", "a", [])),
            "Slots count should be between 1 and the number of actions",
        ),
        (slots(("1", "x", [])), BASELINE),
        (slots(("1", "a", []), ("2", "a", [])), BASELINE),
        (slots(("1", "a", ["a"])), "BaselineAction cannot be part of ExcludedActions."),
        (slots(("1", "a", []), ("1", "b", [])), "Slot ids must be unique."),
        (slots(("", "a", [])), "Slot ids must have 1 to 256 characters."),
    ],
)
def test_slots_that_are_wrong(client: TestClient, places: Any, message: str) -> None:
    body = {"actions": actions("a", "b"), "slots": places}
    response = client.post(NEWEST.format("/multislot/rank"), json=body)
    assert (response.status_code, error(response)["code"]) == (400, "InvalidRankRequest")
    assert error(response)["message"] == message


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/personalizer/v1.0/nothing", 404, "ResourceNotFound"),
        ("GET", "/personalizer/v3.0/configurations/service", 404, "ResourceNotFound"),
        ("POST", "/personalizer/v1.0/multislot/rank", 404, "ResourceNotFound"),
        ("GET", "/personalizer/configurations/service", 400, "BadRequest"),
        ("GET", "/personalizer/configurations/service?api-version=1", 400, "BadRequest"),
        ("PUT", "/personalizer/v1.0/rank", 405, "BadRequest"),
        ("PUT", NEWEST.format("/evaluations/x"), 400, "InvalidEvaluationContract"),
        ("POST", PREVIEW.format("/evaluations"), 400, "InvalidEvaluationContract"),
        ("POST", NEWEST.format("/evaluations"), 400, "InvalidEvaluationContract"),
        ("GET", NEWEST.format("/evaluations/x"), 404, "EvaluationNotFound"),
        ("DELETE", STABLE.format("/evaluations/x"), 404, "ResourceNotFound"),
        ("POST", NEWEST.format("/configurations/applyFromEvaluation"), 400, "InvalidEvaluationContract"),
        ("GET", PREVIEW.format("/featureImportances"), 404, "ResourceNotFound"),
        ("PUT", NEWEST.format("/featureImportances/x"), 400, "InvalidEvaluationContract"),
        ("GET", NEWEST.format("/featureImportances/x"), 404, "FeatureImportanceNotFound"),
        ("POST", PREVIEW.format("/logs/interactions"), 404, "ResourceNotFound"),
        ("POST", PREVIEW.format("/logs/observations"), 404, "ResourceNotFound"),
    ],
)
def test_what_there_is_not(client: TestClient, method: str, path: str, status: int, code: str) -> None:
    body = json.dumps({"actions": actions("a"), "slots": slots(("s", "a", []))}) if method in ("POST", "PUT") else None
    response = client.request(method, path, content=body, headers={"content-type": "application/json"})
    assert (response.status_code, error(response)["code"]) == (status, code)


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[" * 5_000, b'{"actions": NaN}', b'{"eventId": "\\ud800"}'])
def test_what_is_not_json(client: TestClient, body: bytes, url: str) -> None:
    response = client.post(url.format("/rank"), content=body, headers={"content-type": "application/json"})
    assert (response.status_code, error(response)["code"]) == (400, "BadRequest")


def test_a_key_is_required(loop: Loop, url: str) -> None:
    before = count_rows(loop.store)
    for headers in ({}, {"Ocp-Apim-Subscription-Key": "wrong"}):
        response = TestClient(loop.app).post(url.format("/rank"), json={"actions": actions("a")}, headers=headers)
        assert (response.status_code, error(response)["code"]) == (401, "401")
    assert count_rows(loop.store) == before


def test_a_body_that_is_too_large(client: TestClient) -> None:
    body = {"actions": [{"id": "a", "features": [{"text": "x" * 1_100_000}]}]}
    response = client.post(STABLE.format("/rank"), json=body)
    assert (response.status_code, error(response)["code"]) == (400, "PayloadSizeExceeded")


@pytest.mark.parametrize("fault", [StoreUnavailable("locked at /secret"), StoreBusy("full")])
def test_a_store_that_cannot_commit_now(
    client: TestClient, loop: Loop, monkeypatch: pytest.MonkeyPatch, fault: Exception, url: str, event: str
) -> None:
    def fail(records: object) -> None:
        raise fault

    body = {"actions": actions("a"), "eventId": event}
    with monkeypatch.context() as patch:
        patch.setattr(loop.store, "insert", fail)
        response = client.post(url.format("/rank"), json=body)
        reward = client.post(url.format("/events/e/reward"), json={"value": 1})
    for refused in (response, reward):
        assert (refused.status_code, error(refused)["code"]) == (503, "OperationNotAllowed")
        assert refused.headers["Retry-After"] == "1"
        assert "secret" not in refused.text
    assert loop.store.decision(f"personalizer:{event}") is None
    assert client.post(url.format("/rank"), json=body).status_code == 201


def test_a_fault_of_ours_shows_no_trace(
    client: TestClient, loop: Loop, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    def fail(records: object) -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(loop.store, "insert", fail)
    response = client.post(url.format("/rank"), json={"actions": actions("a")})
    assert (response.status_code, error(response)["code"]) == (500, "InternalServerError")
    assert "secret" not in response.text
