"""Whatever is sent, the answer is one that the interface describes: schemathesis over the OpenAPI description."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.result import Ok
from starlette.testclient import TestClient

from data.log.store import Store
from data.nodes.node import load_node
from data.settings import Settings
from rl.artefacts.shelf import shelve
from rl.online.fold import FoldSpec
from serve.api.application import create_api
from serve.api.personalizer.configuration.plan import PersonalizerSource
from serve.api.personalizer.configuration.values import LOOP
from serve.api.personalizer.routes.problems import SHAPES
from serve.api.personalizer.service import Personalizer
from serve.config import Limits, ServiceConfig
from serve.decisions.served import Served
from serve.decisions.service import Service
from serve.http.answers import Answers
from serve.http.edge import Edge
from serve.learning.loops import Loops
from serve.learning.plan import Plan, PlanSource
from tests.support.shops import POLICIES, save_policies, small_market
from tests.support.writers import StoreWriter

EXAMPLES = 200
_STREAM = "/v1/stream"  # its answer does not end


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """Return the whole application, as a replica has it."""
    home = tmp_path_factory.mktemp("home")
    where = Settings(home=home, store=None, archive=None)
    save_policies(home, small_market()[1])
    store = Store.open(where.store_url)
    digests = {name: shelve(home / "policies" / name, where).digest for name in POLICIES}
    sources: list[PlanSource] = [lambda: [Plan(FoldSpec(), digests)], PersonalizerSource(where, store)]
    served = Served({"v1": dict.fromkeys(POLICIES, 1.0), LOOP: {LOOP: 1.0}})
    served.take(Loops(store, where, sources, lambda: datetime.now(UTC)).news({}))
    config = ServiceConfig(home=str(home))
    nodes = {"online_retail": (load_node("online_retail"), None)}
    service = Service(served, store, StoreWriter(store), nodes, config)
    edge = Edge(limits=Limits(), answers=Answers(by_prefix=SHAPES), access_log=False)
    yield create_api(service, edge, personalizer=Personalizer(served, store, service.commit, service.report, where))
    store.close()


def operations(app: FastAPI) -> list[Any]:
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    found = [operation.ok() for operation in schema.get_all_operations() if isinstance(operation, Ok)]
    return [operation for operation in found if operation.path != _STREAM]


def fuzz(app: FastAPI, examples: int) -> None:
    """Send examples to every operation, those that fit the description and those that do not."""
    load_all_checks()
    checks = CHECKS.get_by_names(_CHECKED)
    assert len(checks) == len(_CHECKED)
    failed = []
    for operation in operations(app):

        @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def send(case: Any) -> None:
            response = case.call()
            assert response.status_code < 500 or response.status_code == 503, response.text
            case.validate_response(response, checks=checks)

        try:
            send()
        except Exception as error:
            failed.append(f"{operation.label}: {error}")
    assert not failed, "\n\n".join(failed)


_CHECKED = ["status_code_conformance", "content_type_conformance", "response_schema_conformance"]


def test_a_few_examples_of_every_operation(app: FastAPI) -> None:
    fuzz(app, examples=5)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_examples_of_every_operation(app: FastAPI) -> None:
    fuzz(app, examples=EXAMPLES)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    ["/v1/recommend", "/v1/feedback", "/v1/events", "/v1/items", "/personalizer/v1.0/rank"],
)
@given(body=JSON)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_json_gets_an_answer(app: FastAPI, path: str, body: Any) -> None:
    response = TestClient(app, raise_server_exceptions=False).post(path, json=body)
    assert response.status_code < 500
    if response.status_code >= 400:
        assert set(response.json()) == {"error"}


@pytest.mark.parametrize("count", [1_001, 100_000])
def test_too_many_candidates_are_refused_without_looking_at_them(app: FastAPI, count: int) -> None:
    body = {"candidates": [f"{n:x}" for n in range(count)]}
    response = TestClient(app).post("/v1/recommend", json=body)
    assert (response.status_code, response.json()["error"]["where"]) == (422, "candidates")


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "[" * 100_000, '{"k": 1', '"\\ud800"'])
def test_what_json_cannot_say_is_refused(app: FastAPI, text: str) -> None:
    for body in (text, f'{{"context": {{"a": {text}}}}}'):
        response = TestClient(app).post("/v1/recommend", content=body, headers={"content-type": "application/json"})
        assert response.status_code == 422
        assert len(response.text) < 2_000


def test_numbers_stay_finite_through_feedback(app: FastAPI) -> None:
    client = TestClient(app)
    decision = client.post("/v1/recommend", json={"k": 1}).json()["decision_id"]
    for value in (1e9, -1e9, 5e-324):
        report = {"decision_id": decision, "kind": "purchase", "value": value, "feedback_id": str(value)}
        assert client.post("/v1/feedback", json=report).status_code == 200
    rewards = client.get(f"/v1/decisions/{decision}").json()["rewards"]
    assert all(math.isfinite(reward) for reward in rewards)
