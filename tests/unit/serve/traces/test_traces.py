"""Traces: request -> encode -> decide -> commit, and what was learned of it; where they are off, nothing of them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import SpanKind, StatusCode
from pydantic import ValidationError

from data.json_lines import Redact
from data.log.errors import StoreUnavailable
from data.log.store import Store
from data.reward import RewardSpec
from data.settings import Settings
from rl.artefacts.artefact import save
from serve.api.application import create_api
from serve.api.personalizer.configuration.plan import PersonalizerSource
from serve.api.personalizer.configuration.values import LOOP
from serve.api.personalizer.routes.problems import SHAPES
from serve.api.personalizer.service import Personalizer
from serve.config import ServiceConfig, TraceSettings
from serve.decisions.served import Served
from serve.decisions.service import Service
from serve.http.answers import Answers
from serve.http.edge import Edge
from serve.http.keys import KeyRing
from serve.learning.loops import Loops
from serve.learning.plan import PlanSource
from serve.learning.plans import ConfiguredPlans
from serve.traces.contexts import read_parent, write_parent
from serve.traces.provider import make_provider, make_sampler
from serve.traces.start import is_wanted, start_tracer
from serve.traces.tracer import Tracer
from tests.support.otlp import collecting, text
from tests.support.shops import small_market, untrained
from tests.support.writers import StoreWriter

ROOT = Path(__file__).parents[4]
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = PARENT[:-1] + "0"
SECRET = "the-keys-secret"
USER = "a-user-of-ours"


class Shop:
    """A service that is traced, in this process; its learner learns when it is told to."""

    def __init__(self, home: Path, tracer: Tracer) -> None:
        save(untrained(small_market()[1], "linear_thompson"), home / "policies/linear_thompson")
        config = ServiceConfig(policies={"linear_thompson": 1.0}, reward=RewardSpec(wait_s=60), home=str(home))
        settings = config.settings
        self.tracer, self.store = tracer, Store.open(settings.store_url)
        self.learned = tracer.learned()
        sources: list[PlanSource] = [
            ConfiguredPlans(config, settings, self.store),
            PersonalizerSource(settings, self.store),
        ]
        self.loops = Loops(self.store, settings, sources, lambda: datetime.now(UTC), watch=self.learned)
        shares = {"v1": config.shares, LOOP: {LOOP: 1.0}}
        self.served = Served(shares, make=tracer.recommender)
        self.service = Service(self.served, self.store, tracer.writer(StoreWriter(self.store)), {}, config)
        personalizer = Personalizer(self.served, self.store, self.service.commit, self.service.report, settings)
        edge = Edge(
            KeyRing(self.store, SECRET),
            answers=Answers(by_prefix=SHAPES),
            redact=Redact([SECRET]),
            plain=Settings().plain,
            traced=tracer.requests,
        )
        self.client = TestClient(
            create_api(self.service, edge, personalizer=personalizer),
            headers={"Authorization": f"Bearer {SECRET}"},
            raise_server_exceptions=False,
        )
        self.hear()

    def hear(self) -> None:
        self.served.take(self.loops.news(self.served.steps()))

    def learn(self) -> None:
        """Learn as the learner does: what replicas tell it of requests may come after that."""
        self.loops.poll()
        self.learned.hear(self.tracer.outbox.take())
        self.learned.send(patience_ns=0)

    def recommend(self, headers: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
        answer = self.client.post("/v1/recommend", json={"user_id": USER, "k": 2} | fields, headers=headers)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def view(self, decision_id: str, **headers: str) -> None:
        answer = self.client.post(
            "/v1/feedback", json={"decision_id": decision_id, "kind": "view"}, headers=headers or None
        )
        assert answer.status_code == 200


class Memory:
    """A tracer whose spans stay here."""

    def __init__(self, settings: TraceSettings | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=make_sampler(settings or TraceSettings()))
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = Tracer(self.provider, Redact([SECRET]))

    def take(self) -> list[ReadableSpan]:
        """Return what has ended since, and forget it."""
        spans = list(self._exporter.get_finished_spans())
        self._exporter.clear()
        return spans

    def by_name(self) -> dict[str, ReadableSpan]:
        spans = self.take()
        assert len({span.name for span in spans}) == len(spans)
        return {span.name: span for span in spans}


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def shop(tmp_path: Path, memory: Memory) -> Iterator[Shop]:
    shop = Shop(tmp_path, memory.tracer)
    yield shop
    shop.store.close()


def ids(span: ReadableSpan) -> tuple[int, int]:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id


def is_below(child: ReadableSpan, parent: ReadableSpan) -> bool:
    return child.parent is not None and (child.parent.trace_id, child.parent.span_id) == ids(parent)


@pytest.mark.usefixtures("plain")
def test_a_request_is_a_trace_from_its_arrival_to_what_is_learned_of_it(shop: Shop, memory: Memory) -> None:
    answer = shop.recommend({"X-Request-Id": "mine"})
    spans = memory.by_name()
    request = spans["POST /v1/recommend"]
    assert set(spans) == {"POST /v1/recommend", "encode", "decide", "commit"}
    assert request.parent is None
    assert request.kind == SpanKind.SERVER
    assert all(is_below(spans[name], request) for name in ("encode", "decide", "commit"))
    order = [spans[name] for name in ("encode", "decide", "commit")]
    for one, after in zip([request, *order], order, strict=False):
        assert one.start_time is not None
        assert after.start_time is not None
        assert one.start_time <= after.start_time
    assert dict(request.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/v1/recommend",
        "http.response.status_code": 200,
        "raycommend.request_id": "mine",
        "raycommend.decision_id": answer["decision_id"],
        "raycommend.policy_version": answer["policy"]["version"],
    }
    decided = dict(spans["decide"].attributes or {})
    assert decided.pop("raycommend.candidates") == len(shop.served.at("v1").catalogue("linear_thompson"))
    assert answer["policy"]["version"].endswith(str(decided.pop("raycommend.step")))
    assert decided == {"raycommend.loop": "v1", "raycommend.objective": "default", "raycommend.mode": "explore"}

    shop.view(answer["decision_id"])
    reported = memory.by_name()
    assert set(reported) == {"POST /v1/feedback", "commit"}
    shop.learn()
    (learn,) = memory.take()
    linked = [(link.context.trace_id, link.context.span_id) for link in learn.links]
    assert (learn.name, learn.parent) == ("learn", None)
    assert linked == [ids(request), ids(reported["POST /v1/feedback"])]
    assert [dict(link.attributes or {}) for link in learn.links] == [
        {"raycommend.decision_id": answer["decision_id"]}
    ] * 2
    about = dict(learn.attributes or {})
    shop.hear()
    assert shop.served.at("v1").version("linear_thompson").endswith(str(about["raycommend.step"]))
    assert (about["raycommend.loop"], about["raycommend.decisions"]) == ("v1", 1)
    assert learn.start_time is not None
    assert learn.end_time is not None
    assert 0 < learn.end_time - learn.start_time < 60e9


@pytest.mark.usefixtures("plain")
def test_a_trace_goes_on_below_its_client_and_names_the_request(shop: Shop, memory: Memory) -> None:
    answer = shop.client.post("/v1/recommend", json={"k": 1}, headers={"traceparent": PARENT})
    assert answer.headers["x-request-id"] == PARENT.split("-")[1]
    request = memory.by_name()["POST /v1/recommend"]
    assert request.parent is not None
    assert request.parent.is_remote
    assert write_parent(request.parent) == PARENT
    assert (request.attributes or {})["raycommend.request_id"] == PARENT.split("-")[1]


def test_the_personalizers_requests_are_traced(shop: Shop, memory: Memory) -> None:
    body = {"actions": [{"id": name, "features": [{"kind": name}]} for name in "ab"], "eventId": "e"}
    ranked = shop.client.post("/personalizer/v1.0/rank", json=body)
    assert ranked.status_code == 201, ranked.text
    spans = memory.by_name()
    assert set(spans) == {"POST /personalizer/{version}/rank", "encode", "decide", "commit"}
    about = spans["POST /personalizer/{version}/rank"].attributes or {}
    assert about["raycommend.decision_id"] == f"{LOOP}:e"
    assert about["raycommend.policy_version"] == shop.served.at(LOOP).version(LOOP)


def test_a_list_is_one_request_with_all_of_its_decisions(shop: Shop, memory: Memory) -> None:
    answers = shop.client.post("/v1/recommend", json=[{"k": 1}, {"k": 1}]).json()
    spans = memory.take()
    assert sorted(span.name for span in spans) == sorted(["encode", "decide"] * 2 + ["commit", "POST /v1/recommend"])
    about = dict(spans[-1].attributes or {})
    assert about["raycommend.decisions"] == 2
    assert about["raycommend.decision_ids"] == tuple(answer["decision_id"] for answer in answers)


@pytest.mark.usefixtures("plain")
def test_no_user_and_no_key_is_in_a_span(shop: Shop, memory: Memory) -> None:
    token = "rk_0123456789abcdef_aB3-_xYz0123456789012345678901234567890123"
    named = shop.recommend(decision_id=f"{token}-{SECRET}", context={"city": USER})
    shop.view(named["decision_id"])
    shop.client.put(f"/v1/users/{USER}", json={"features": {"drinks": "tea"}})
    shop.client.get(f"/v1/users/{USER}?of={USER}")
    shop.client.get(f"/v1/{USER}")
    shop.client.post("/v1/recommend", json={"user_id": USER, "policy": USER, "k": 1})
    shop.client.post("/v1/recommend", json={"k": 1}, headers={"Authorization": f"Bearer {token}"})
    shop.client.request(USER, "/v1/recommend")
    shop.learn()
    spans = memory.take()
    names = {span.name for span in spans}
    assert {"learn", "GET /v1/users/{user_id}", "GET"} <= names
    assert any(name.startswith("_OTHER") for name in names)
    said = "".join(span.to_json() for span in spans)
    for secret in (USER, SECRET, token.split("_", 2)[2]):
        assert secret.lower() not in said.lower()  # a client may send a method in capitals
    assert "rk_0123456789abcdef_***" in said


@pytest.mark.usefixtures("plain")
def test_what_fails_says_so_by_the_kind_of_the_error_alone(
    shop: Shop, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.client.post("/v1/recommend", json={"k": 0})
    refused = memory.by_name()["POST /v1/recommend"]
    assert refused.status.status_code == StatusCode.UNSET  # the client's fault, not ours
    assert (refused.attributes or {})["error.type"] == "invalid_request"

    def fail(_: Any) -> Any:
        raise StoreUnavailable(f"no connection to {SECRET}")

    monkeypatch.setattr(shop.store, "insert", fail)
    answer = shop.client.post("/v1/recommend", json={"k": 1, "user_id": USER})
    assert answer.status_code == 503
    spans = memory.by_name()
    for name, kind in (("commit", "StoreUnavailable"), ("POST /v1/recommend", "store_unavailable")):
        assert spans[name].status.status_code == StatusCode.ERROR
        assert spans[name].status.description is None
        assert spans[name].events == ()
        assert (spans[name].attributes or {})["error.type"] == kind


def test_health_is_not_traced(shop: Shop, memory: Memory) -> None:
    for path in ("/healthz", "/readyz"):
        assert shop.client.get(path).status_code in (200, 503)
    assert memory.take() == []


def test_a_share_of_the_requests_is_traced_and_learning_of_the_others_is_not(tmp_path: Path) -> None:
    memory = Memory(TraceSettings(sample=0.0))
    shop = Shop(tmp_path, memory.tracer)
    untraced = shop.recommend()["decision_id"]
    shop.recommend({"traceparent": UNSAMPLED})
    shop.view(untraced)
    assert shop.tracer.outbox.take() == []
    shop.learn()
    assert memory.take() == []
    shop.recommend({"traceparent": PARENT})  # whose client is traced, and follows it
    assert len(memory.take()) == 4
    shop.store.close()


@pytest.mark.parametrize(("follow", "spans"), [(True, 4), (False, 0)])
def test_a_client_gets_traces_only_where_it_is_followed(tmp_path: Path, follow: bool, spans: int) -> None:
    memory = Memory(TraceSettings(sample=0.0, follow=follow))
    shop = Shop(tmp_path, memory.tracer)
    shop.recommend({"traceparent": PARENT})
    assert len(memory.take()) == spans
    shop.store.close()


def test_a_share_is_about_that_share() -> None:
    sampler = make_sampler(TraceSettings(sample=0.25))
    assert sampler is not None
    ids = (int.from_bytes(n.to_bytes(8, "big") * 2) * 0x9E3779B97F4A7C15 % (1 << 128) for n in range(1, 4_001))
    kept = sum(sampler.should_sample(None, trace, "x").decision is Decision.RECORD_AND_SAMPLE for trace in ids)
    assert 800 < kept < 1_200


@pytest.mark.parametrize(
    "given", ["", "x", PARENT.upper(), PARENT + "-00", PARENT.replace("00-", "ff-", 1), "00-" + "0" * 32 + PARENT[35:]]
)
def test_what_is_no_traceparent_names_no_parent(given: str) -> None:
    assert read_parent(given) is None


@pytest.mark.parametrize(
    ("endpoint", "environment", "wanted"),
    [
        (None, {}, False),
        ("http://c:4318", {}, True),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        (None, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ("http://c:4318", {"OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_there_are_traces_where_an_endpoint_is_named(
    endpoint: str | None, environment: dict[str, str], wanted: bool
) -> None:
    assert is_wanted(TraceSettings(endpoint=endpoint), environment) is wanted


@pytest.mark.parametrize("endpoint", ["c:4318", "http://user:password@c:4318", "http://"])
def test_an_endpoint_is_a_url_without_a_password(endpoint: str) -> None:
    with pytest.raises(ValidationError, match="endpoint"):
        TraceSettings(endpoint=endpoint)


OFF = """
import json, sys, threading
from data.json_lines import Redact
from serve.api.application import create_api
from serve.config import TraceSettings
from serve.http.edge import Edge
from serve.traces.start import start_learner_spans, start_tracer
assert start_tracer(TraceSettings(), "gateway", "r1", Redact()) is None
assert start_learner_spans(TraceSettings(), "l1") is None
print(json.dumps([sorted(sys.modules), [thread.name for thread in threading.enumerate()]]))
"""


@pytest.mark.heavy
def test_without_an_endpoint_nothing_of_it_is_loaded_or_started(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    done = subprocess.run([sys.executable, "-c", OFF], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    modules, threads = json.loads(done.stdout)
    loaded = [name for name in modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))]
    assert loaded == []
    assert [name for name in modules if name.startswith("serve.traces.")] == ["serve.traces.start"]
    assert not any("otel" in name.lower() for name in threads)


def test_spans_go_to_a_collector_over_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=of-the-collector")
    with collecting() as collector:
        tracer = start_tracer(TraceSettings(endpoint=collector.url), "gateway", "r7", Redact())
        assert tracer is not None
        shop = Shop(tmp_path, tracer)
        answer = shop.recommend({"traceparent": PARENT})
        shop.view(answer["decision_id"])
        shop.learn()
        tracer.close()
        shop.store.close()
        spans = collector.spans("gateway")
        assert sorted(span.name for span in spans) == sorted(
            ["POST /v1/recommend", "encode", "decide", "commit", "POST /v1/feedback", "commit", "learn"]
        )
        by_name = {span.name: span for span in spans}
        request, learn = by_name["POST /v1/recommend"], by_name["learn"]
        assert f"00-{request.trace_id.hex()}-{request.parent_span_id.hex()}-01" == PARENT
        assert by_name["decide"].parent_span_id == request.span_id
        assert text(request.attributes, "raycommend.decision_id") == answer["decision_id"]
        assert (learn.links[0].trace_id, learn.links[0].span_id) == (request.trace_id, request.span_id)
        resource = collector.requests[0].resource_spans[0].resource.attributes
        assert text(resource, "service.name") == "raycommend"
        assert text(resource, "service.instance.id") == "r7"
        assert collector.headers[0]["api-key"] == "of-the-collector"


def test_a_collector_that_is_gone_holds_up_nothing(tmp_path: Path) -> None:
    provider = make_provider(TraceSettings(endpoint="http://127.0.0.1:9"), "gateway", "r1")
    shop = Shop(tmp_path, Tracer(provider, Redact()))
    began = datetime.now(UTC)
    for _ in range(20):
        shop.recommend()
    assert (datetime.now(UTC) - began).total_seconds() < 10
    shop.store.close()
