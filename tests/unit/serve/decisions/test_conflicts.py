"""A name is checked against its content: a retry is answered as the first time, something else by it is a 409."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from data.log.store import Store
from data.log.tables import DECISIONS
from data.nodes.node import NodeSpec
from data.sameness import (
    canonical,
    differing,
    digests,
    same,
)
from serve.api.application import create_api
from tests.support.rows import count_rows, feedback_rows
from tests.support.shops import shop_service

NODE = NodeSpec.model_validate(
    {
        "name": "views",
        "columns": [
            {"name": "id", "source": "Id", "type": "string", "role": "key", "missing": "reject"},
            {"name": "who", "source": "Who", "type": "string", "role": "user"},
            {"name": "at", "source": "At", "type": "timestamp", "role": "time"},
            {"name": "dwell", "source": "Dwell", "type": "float", "role": "outcome"},
            {"name": "page", "source": "Page", "type": "string"},
        ],
    }
)


@pytest.fixture
def client(store: Store) -> TestClient:
    return TestClient(create_api(shop_service(store, NODE)), raise_server_exceptions=False)


def told(response: Any) -> tuple[int, str, str, str]:
    error = response.json()["error"]
    return response.status_code, error["code"], error["where"], error["message"].rpartition("differs in ")[2]


FULL: dict[str, Any] = {
    "user_id": "secret-user",
    "context": {"time": "2011-12-01T09:30:00Z", "page": "secret-page", "n": 1},
    "candidates": ["20001", "20002", "20003", "secret-item"],
    "exclude": ["20003"],
    "filter": {"exclude_seen": True},
    "rules": {"boosts": {"20001": 1, "20002": 0.5}, "pins": {"20001": 0}},
    "k": 2,
    "policy": "random",
    "objective": "default",
    "explore": True,
    "node": "secret-screen",
}


@pytest.mark.parametrize("header", [False, True])
def test_an_equal_request_is_a_retry_and_any_other_by_its_name_a_conflict(
    client: TestClient, store: Store, header: bool
) -> None:
    where = "Idempotency-Key" if header else "decision_id"

    def ask(body: dict[str, Any]) -> Any:
        if header:
            return client.post("/v1/recommend", json=body, headers={"Idempotency-Key": "mine"})
        return client.post("/v1/recommend", json={**body, "decision_id": "mine"})

    first = ask(FULL).json()
    equal: list[dict[str, Any]] = [
        dict(reversed(FULL.items())),
        {**FULL, "context": {"n": 1.0, "page": "secret-page", "time": "2011-12-01T09:30:00Z"}},
        {**FULL, "rules": {"pins": {"20001": 0}, "boosts": {"20002": 5e-1, "20001": 1.0}, "caps": None}},
        {**FULL, "filter": {"exclude_seen": True, "available_only": True}, "timeout_s": 9},
        {name: value for name, value in FULL.items() if name not in ("objective", "explore")},
    ]
    for body in equal:
        assert ask(body).json() == first
    changes: dict[str, Any] = {
        "user_id": "other",
        "context": {**FULL["context"], "n": True},
        "candidates": ["20001", "20002", "20003"],
        "exclude": [],
        "filter": {},
        "rules": {"pins": {"20001": 0}, "boosts": {"20001": 1, "20002": 0.25}},
        "k": 3,
        "policy": "linear_thompson",
        "explore": False,
        "node": None,
    }
    for name, value in changes.items():
        response = ask({**FULL, name: value})
        assert told(response) == (409, "conflict", where, name)
        assert "secret" not in response.text
    assert told(ask({"k": 3}))[3] == "user_id, context, node, candidates, exclude, filter, k, policy, rules"
    assert count_rows(store)["decisions"] == 1


def test_a_request_that_could_not_be_answered_any_more_is_compared_too(client: TestClient) -> None:
    assert client.post("/v1/recommend", json={"decision_id": "d", "k": 1}).status_code == 200
    response = client.post("/v1/recommend", json={"decision_id": "d", "k": 1, "policy": "gone"})
    assert told(response) == (409, "conflict", "decision_id", "policy")


def test_a_time_that_was_not_given_is_no_part_of_the_request(client: TestClient) -> None:
    first = client.post("/v1/recommend", json={"decision_id": "d", "k": 1})
    assert client.post("/v1/recommend", json={"decision_id": "d", "k": 1}).json() == first.json()
    response = client.post(
        "/v1/recommend", json={"decision_id": "d", "k": 1, "context": {"time": "2011-12-01T09:30:00Z"}}
    )
    assert told(response)[3] == "context"


def test_decisions_of_an_older_log_are_compared_by_what_they_show(client: TestClient, store: Store) -> None:
    body = {**FULL, "decision_id": "old"}
    first = client.post("/v1/recommend", json=body).json()
    with store.writing() as connection:
        connection.execute(sa.update(DECISIONS.table).values(request=None))
    assert client.post("/v1/recommend", json=body).json() == first
    assert client.post("/v1/recommend", json={**body, "filter": {}}).json() == first  # nothing tells
    changes = {"user_id": "other", "k": 1, "candidates": ["20001"], "exclude": ["20002"], "policy": "linear_thompson"}
    for name, value in changes.items():
        rules = {"pins": {"20001": 0}} if name == "k" else FULL["rules"]
        assert told(client.post("/v1/recommend", json={**body, "rules": rules, name: value}))[3] == name


def test_in_a_list_each_request_is_answered_for_itself(client: TestClient, store: Store) -> None:
    one, two = {"decision_id": "one", "k": 1}, {"decision_id": "two", "k": 1}
    first = client.post("/v1/recommend", json=one).json()
    answers = client.post("/v1/recommend", json=[{**one, "user_id": "u"}, two, one, {**two, "k": 2}]).json()
    assert [set(answer) for answer in (answers[0], answers[3])] == [{"error"}] * 2
    assert [answers[n]["error"]["message"].rpartition(" ")[2] for n in (0, 3)] == ["user_id", "k"]
    assert answers[2] == first
    assert answers[1]["decision_id"] == "two"
    assert count_rows(store)["decisions"] == 2
    table = client.post("/v1/recommend", json=[one, {**one, "k": 2}], headers={"accept": "text/csv"})
    assert told(table) == (409, "conflict", "decision_id", "k")


def test_an_idempotency_key_names_a_list_too(client: TestClient, store: Store) -> None:
    def ask(body: Any, key: str = "basket-77") -> Any:
        return client.post("/v1/recommend", json=body, headers={"Idempotency-Key": key})

    first = ask([{"k": 1}, {"k": 1}])
    assert ask([{"k": 1}, {"k": 1}]).json() == first.json()
    assert len({answer["decision_id"] for answer in first.json()}) == 2
    assert told(ask([{"k": 1}, {"k": 2}])) == (409, "conflict", "Idempotency-Key", "k")
    for other in ([{"k": 1}], {"k": 1}):
        assert told(ask(other)) == (409, "conflict", "Idempotency-Key", "length")
    assert count_rows(store)["decisions"] == 2
    mixed = ask([{"k": 1, "decision_id": "own"}, {"k": 1}])
    assert (mixed.status_code, mixed.json()["error"]["where"]) == (422, "Idempotency-Key")
    own = [{"k": 1, "decision_id": "own"}]
    assert ask(own).json() == ask(own, "another").json()


def test_of_many_at_once_with_one_name_all_get_one_answer_or_are_told(client: TestClient, store: Store) -> None:
    bodies = [{"decision_id": "d", "k": 1 + n % 2} for n in range(40)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: client.post("/v1/recommend", json=body), bodies))
    won = {answer.text for answer in answers if answer.status_code == 200}
    assert len(won) == 1
    k = len(json.loads(won.pop())["items"])
    for body, answer in zip(bodies, answers, strict=True):
        assert (answer.status_code == 200) == (body["k"] == k)
        assert answer.status_code == 200 or told(answer) == (409, "conflict", "decision_id", "k")


def test_a_report_retried_with_another_value_is_a_conflict(client: TestClient, store: Store) -> None:
    body = {"feedback_id": "f", "decision_id": "d", "kind": "rating", "value": 4, "time": "2026-01-01T00:00:00Z"}
    stored = client.post("/v1/feedback", json=body).json()["results"][0]
    assert stored["status"] == "stored"
    for same_one in (body, {**body, "value": 4.0, "time": "2026-01-01T01:00:00+01:00", "item_id": None}):
        assert client.post("/v1/feedback", json=same_one).json()["results"] == [{**stored, "status": "known"}]
    others: dict[str, Any] = {"value": 5, "decision_id": "e", "kind": "click", "item_id": "i", "time": None}
    for name, value in others.items():
        assert told(client.post("/v1/feedback", json={**body, name: value})) == (409, "conflict", "feedback_id", name)
    many = client.post("/v1/feedback", json=[{**body, "value": 5}, body, {**body, "feedback_id": "g"}])
    assert many.status_code == 200
    assert [row["status"] for row in many.json()["results"]] == ["conflict", "known", "stored"]
    assert many.json()["results"][0] == {
        "feedback_id": "f",
        "status": "conflict",
        "orphan": False,
        "position": None,
        "differs": ["value"],
    }
    assert [report.value for _, report in feedback_rows(store)] == [4.0, 4.0]


def test_an_event_with_a_known_key_and_other_columns_is_a_conflict(client: TestClient, store: Store) -> None:
    row = {"Id": "e1", "Who": "u", "At": "2026-01-01T00:00:00Z", "Dwell": 2, "Page": "p"}
    rows = [row, {**row, "Dwell": 2.0}, {**row, "Dwell": 3}, {**row, "Who": "v", "Page": None}, {**row, "Id": "e2"}]
    results = client.post("/v1/events", json={"node": "views", "records": rows}).json()["results"]
    assert [result["status"] for result in results] == ["stored", "known", "conflict", "conflict", "stored"]
    assert [result["differs"] for result in results] == [None, None, ["Dwell"], ["Who", "Page"], None]
    assert count_rows(store)["events"] == 2


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ({"a": 1, "b": [1.0, 2]}, {"b": [1, 2.0], "a": 1.0}, True),
        (1, True, False),
        (0, False, False),
        (-0.0, 0, True),
        (10**17, 1e17, True),
        ("1.0", 1.0, False),
        (["1.0", 0.05], ["1.0", 0.050], True),
        ({"a": None}, {}, False),
        ((1, 2), [1, 2], True),
        ([1, 2], [2, 1], False),
        ("ü", "u\u0308", False),
    ],
)
def test_sameness_is_that_of_json(one: Any, other: Any, equal: bool) -> None:
    assert same(one, other) is equal
    assert (canonical(one) == canonical(other)) is equal


def test_digests_tell_which_fields_differ() -> None:
    kept = digests({"k": 1, "candidates": ["a"], "exclude": []})
    assert differing(kept, kept) == []
    assert differing(kept, digests({"exclude": [], "candidates": ["b"], "k": 1.0})) == ["candidates"]
    assert differing(kept, "") == ["candidates", "exclude", "k"]
    assert differing("", "") == []
    assert len(kept) < 25 * 3
    assert "a" not in {part.partition(":")[2] for part in kept.split()}
