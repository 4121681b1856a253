"""Requests that are sent until they are answered."""

import asyncio
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from serve.traffic.client import Client as TrafficClient
from serve.traffic.client import Refusal, UnansweredError, connect, heed
from tests.support.answering import Answering, answered
from tests.support.ports import free_port

ASK = {"decision_id": "d", "candidates": ["a", "b"], "k": 1}


def refused(status: int, after: str | None = None) -> Response:
    return JSONResponse({"error": {}}, status, {"Retry-After": after} if after else {})


def test_a_busy_service_is_asked_again_when_it_says_and_a_report_counts_once() -> None:
    answers = {0: refused(503, "2"), 1: refused(429, "1")}
    service = Answering(refuse=lambda path, number: answers.get(number))
    pauses = list[float]()

    def pause(attempts: int, last: Refusal) -> float:
        pauses.append(heed(attempts, last))
        return 0.0

    async def run() -> Any:
        async with answered(service, pause=pause) as client:
            got = await client.post("/v1/recommend", ASK)
            return got, client.requests, client.refusals, client.latencies

    got, requests, refusals, latencies = asyncio.run(run())
    assert got["decision_id"] == "d"
    assert pauses == [2.0, 1.0]
    assert requests == {"/v1/recommend": 3}
    assert refusals == {"/v1/recommend 503": 1, "/v1/recommend 429": 1}
    assert len(latencies["/v1/recommend"]) == 1
    assert service.asked == [ASK]
    assert len(service.clients) == 1, "the connection is kept"


def test_where_nothing_is_said_pauses_double_up_to_ten_seconds() -> None:
    silent = Refusal(0.0, "/", 503, "", None, None)
    assert [heed(attempts, silent) for attempts in (1, 2, 3, 6, 7, 99)] == [0.2, 0.4, 0.8, 6.4, 10.0, 10.0]
    assert heed(1, Refusal(0.0, "/", 503, "", 0.0, None)) == 0.0


@pytest.mark.parametrize(("status", "attempts"), [(422, 1), (401, 1), (409, 1), (503, 3), (500, 3)])
def test_what_is_wrong_is_not_sent_again_and_what_is_not_answered_is_given_up(status: int, attempts: int) -> None:
    service = Answering(refuse=lambda path, number: refused(status))

    async def run() -> None:
        async with answered(service, attempts=3, pause=lambda attempts, last: 0.0) as client:
            with pytest.raises(UnansweredError, match=rf"answered {status}") as given_up:
                await client.post("/v1/recommend", ASK)
            assert given_up.value.last.status == status
            assert client.requests["/v1/recommend"] == attempts

    asyncio.run(run())


def test_each_attempt_goes_to_the_next_entry_and_nobody_there_is_no_answer() -> None:
    async def run() -> None:
        heard = list[Refusal]()
        nobody = [f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"]
        async with connect({}) as session:
            client = TrafficClient(session, lambda: nobody, attempts=2, pause=lambda *_: 0.0, on_refusal=heard.append)
            with pytest.raises(UnansweredError, match="did not answer"):
                await client.post("/v1/recommend", ASK, 1)
            assert [refusal.status for refusal in heard] == [0, 0]
            assert [
                entry.rpartition(":")[2] in refusal.what for entry, refusal in zip(nobody[::-1], heard, strict=True)
            ]
            client.entries = lambda: []
            with pytest.raises(UnansweredError, match="no entry of the service is ready"):
                await client.get("/healthz")

    asyncio.run(run())
