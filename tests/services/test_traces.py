"""Spans of a service in processes of its own, at a collector: a trace a request, and what the learner made of it."""

from pathlib import Path

import pytest

from rl.artefacts.artefact import save
from serve.config import ServiceConfig, TraceSettings
from tests.support.otlp import collecting, text
from tests.support.services import service, wait_for
from tests.support.shops import small_market, untrained

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.slow
def test_a_request_and_what_was_learned_of_it_reach_the_collector(tmp_path: Path) -> None:
    save(untrained(small_market()[1], "linear_thompson"), tmp_path / "policies/linear_thompson")
    with collecting() as collector:
        traces = TraceSettings(endpoint=collector.url)
        config = ServiceConfig(policies={"linear_thompson": 1.0}, home=str(tmp_path), traces=traces)
        with service(config, OTEL_BSP_SCHEDULE_DELAY="200") as running:
            running.wait()
            answer = running.client.post("/v1/recommend", json={"k": 1}, headers={"traceparent": PARENT})
            assert answer.headers["x-request-id"] == PARENT.split("-")[1]
            decision_id = answer.json()["decision_id"]
            running.client.post("/v1/feedback", json={"decision_id": decision_id, "kind": "view"})
            wait_for(lambda: any(span.name == "learn" for span in collector.spans("learner")), 60)
        (learn,) = collector.spans("learner")
        by_name = {span.name: span for span in collector.spans("gateway") if span.trace_id.hex() in PARENT}
        assert set(by_name) == {"POST /v1/recommend", "encode", "decide", "commit"}
        request = by_name["POST /v1/recommend"]
        assert text(request.attributes, "raycommend.decision_id") == decision_id
        (reported,) = [span for span in collector.spans("gateway") if span.name == "POST /v1/feedback"]
        assert [link.span_id for link in learn.links] == [request.span_id, reported.span_id]
