"""`inferenceExplanation`: off by default, on by the configuration, and what it says adds up."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from rl.policy.explanation.parts import Contribution, ItemExplanation
from serve.api.personalizer.explaining import explain_action
from tests.support.personalizers import Loop, actions

LATEST = "/personalizer{}?api-version=2022-09-01-preview"
SERVICE, RANK = LATEST.format("/configurations/service"), LATEST.format("/rank")


def switch(client: TestClient, on: bool) -> dict[str, Any]:
    now = client.get(SERVICE).json()
    found: dict[str, Any] = client.put(SERVICE, json=now | {"isInferenceExplainabilityEnabled": on}).json()
    return found


def rank(client: TestClient, event: str) -> dict[str, Any]:
    body = {
        "contextFeatures": [{"user": {"mood": "low"}}],
        "actions": actions("a", "b", "c"),
        "excludedActions": ["b"],
        "eventId": event,
    }
    answer = client.post(RANK, json=body)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def reward(client: TestClient, event: str, value: float) -> None:
    path = LATEST.format(f"/events/{event}/reward")
    assert client.post(path, json={"value": value}).status_code == 204


@pytest.fixture
def taught(client: TestClient, loop: Loop) -> None:
    for n in range(12):
        reward(client, f"t{n}", float(rank(client, f"t{n}")["rewardActionId"] == "a"))
        loop.learn()


def test_ranks_are_explained_where_that_is_switched_on(client: TestClient, loop: Loop, taught: None) -> None:
    plain = rank(client, "plain")
    assert set(plain) == {"ranking", "eventId", "rewardActionId"}
    fold = loop.served.at("personalizer").fold_id
    assert switch(client, True)["isInferenceExplainabilityEnabled"] is True
    loop.learn()
    assert loop.served.at("personalizer").fold_id == fold  # nothing is learned anew
    found = rank(client, "explained")
    logged = loop.store.decision("personalizer:explained")
    assert logged is not None
    ranked = [one["id"] for one in found["ranking"] if one["id"] != "b"]
    assert [one["id"] for one in found["inferenceExplanation"]] == ranked
    chosen = next(one for one in found["inferenceExplanation"] if one["id"] == found["rewardActionId"])
    assert sum(one["score"] for one in chosen["features"]) == pytest.approx(logged.scores[0], abs=1e-9)
    names = {one["name"] for one in chosen["features"]}
    assert {"(base)", "user.mood=low", f"user.mood=low^kind={chosen['id']}"} <= names
    assert rank(client, "explained") == found
    reward(client, "explained", 1.0)
    loop.learn()
    assert rank(client, "explained") == found  # by the version that decided
    assert rank(client, "plain")["inferenceExplanation"]
    switch(client, False)
    assert set(rank(client, "explained")) == set(plain)


def test_what_is_not_listed_is_summed_up() -> None:
    explained = ItemExplanation(3.0, 0.5, (Contribution(("a", "b"), 1.0, 2.0),), others=0.5)
    found = explain_action("x", explained)
    assert [(one.name, one.score) for one in found.features] == [("a^b", 2.0), ("(others)", 0.5), ("(base)", 0.5)]
