"""Rank bodies that nobody thought of: an answer or a documented refusal, and probabilities that sum to 1."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.heavy

_TEXT = st.text(max_size=8)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
)
_NUMBERS = st.lists(st.floats(-1e300, 1e300) | st.integers(-(10**30), 10**30), max_size=3)
_VALUES = st.recursive(
    _TEXT | st.booleans() | st.floats(-1e300, 1e300) | st.none() | _NUMBERS,
    lambda inner: st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=4,
)
_FEATURES = st.lists(st.dictionaries(_TEXT, _VALUES, max_size=3), max_size=3)
_IDS = st.sampled_from("abcdefg") | _TEXT
_ACTIONS = st.lists(
    st.fixed_dictionaries({"id": _IDS, "features": _FEATURES.map(lambda f: [*f, {"k": 1}])}), max_size=6
)
_ALMOST = st.fixed_dictionaries(
    {"actions": _ACTIONS},
    optional={
        "contextFeatures": _FEATURES | st.none(),
        "excludedActions": st.lists(_IDS, max_size=3) | st.none(),
        "eventId": st.text(max_size=300) | st.none(),
        "deferActivation": st.booleans() | st.none(),
        "more": _JSON,
    },
)
_SLOTS = st.lists(
    st.fixed_dictionaries(
        {"id": _TEXT, "baselineAction": _IDS},
        optional={"excludedActions": st.lists(_IDS, max_size=3), "features": _FEATURES | st.none()},
    ),
    max_size=4,
)
_WITH_SLOTS = st.builds(lambda body, slots: {**body, "slots": slots}, _ALMOST, _SLOTS)


def check(client: TestClient, path: str, body: Any) -> Any:
    response = client.post(f"/personalizer/v1.1-preview.3{path}", json=body)
    answer = response.json()
    if response.status_code == 201:
        return answer
    assert response.status_code in (400, 409), (response.status_code, response.text)
    assert set(answer) == {"error"}
    assert answer["error"]["message"]
    assert (response.status_code == 409) == (answer["error"]["code"] == "EventIdConflict")
    return None


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=_ALMOST | _JSON)
def test_rank(client: TestClient, body: Any) -> None:
    if (answer := check(client, "/rank", body)) is None:
        return
    probabilities = {one["id"]: one["probability"] for one in answer["ranking"]}
    assert sum(probabilities.values()) == pytest.approx(1)
    assert probabilities[answer["rewardActionId"]] > 0
    assert check(client, "/rank", {**body, "eventId": answer["eventId"]}) == answer


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=_WITH_SLOTS | _JSON)
def test_rank_with_slots(client: TestClient, body: Any) -> None:
    if (answer := check(client, "/multislot/rank", body)) is None:
        return
    shown = [slot["rewardActionId"] for slot in answer["slots"]]
    assert [slot["id"] for slot in answer["slots"]] == [slot["id"] for slot in body["slots"]]
    assert len(set(shown)) == len(shown)
    for slot, action in zip(body["slots"], shown, strict=True):
        assert action not in slot.get("excludedActions", [])


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=st.sampled_from(["/configurations/service", "/configurations/policy", "/model"]), body=_JSON)
def test_administration(client: TestClient, path: str, body: Any) -> None:
    response = client.put(f"/personalizer/v1.1-preview.3{path}", json=body)
    assert response.status_code == 400, (response.status_code, response.text)
