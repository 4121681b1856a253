"""The edge over real sockets: clients that send too much, too slowly, or nonsense, beside those that behave."""

import json
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.log.current import keys
from data.log.store import Store
from data.nodes.node import load_node
from serve.api.application import create_api
from serve.config import Limits
from serve.decisions.service import Service
from serve.http.edge import Edge
from serve.http.front import Front
from serve.http.keys import KeyRing
from tests.support.servers import listening
from tests.support.shops import shop_service

LIMITS = Limits(max_body_bytes=100_000, body_timeout_s=0.5, max_in_flight=64)
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store.open(f"sqlite:///{tmp_path_factory.mktemp('edge') / 'store.db'}")
    yield store
    store.close()


@pytest.fixture(scope="module")
def service(store: Store) -> Service:
    return shop_service(store, load_node("online_retail"))


@pytest.fixture(scope="module")
def port(service: Service) -> Iterator[int]:
    with listening(Front(create_api(service, Edge(limits=LIMITS, access_log=False)))) as port:
        yield port


@pytest.fixture
def client(port: int) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        yield client


class Raw:
    """A client that sends what it is told to, byte by byte."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def head(self, path: str = "/v1/recommend", **headers: str) -> None:
        lines = [
            f"{name.replace('_', '-')}: {value}"
            for name, value in {"content_type": JSON["content-type"], **headers}.items()
        ]
        self.send("\r\n".join([f"POST {path} HTTP/1.1", "host: x", *lines, "", ""]).encode())

    def answered(self) -> bool:
        return bool(select.select([self._socket], [], [], 0)[0])

    def answer(self) -> bytes:
        """Return all that comes until the connection is closed."""
        parts = []
        while part := self._socket.recv(65_536):
            parts.append(part)
        return b"".join(parts)


def code(answer: bytes) -> str:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(body) in head.lower()
    found: str = json.loads(body)["error"]["code"]
    return found


def test_an_endless_body_is_answered_while_it_comes(port: int) -> None:
    with Raw(port) as raw:
        raw.head(transfer_encoding="chunked")
        sent = 0
        while not raw.answered():
            raw.send(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
            sent += 65_536
            assert sent < 20_000_000
        answer = raw.answer()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert code(answer) == "body_too_large"


def test_a_body_of_ten_megabytes_gets_its_answer(client: httpx.Client) -> None:
    response = client.post("/v1/recommend", content=b"x" * 10_000_000, headers=JSON)
    assert response.status_code == 413
    assert client.post("/v1/recommend", json={"k": 1}).status_code == 200


def test_who_asks_whether_to_send_is_told_not_to(port: int) -> None:
    with Raw(port) as raw:
        raw.head(content_length="10000000", expect="100-continue")
        answer = raw.answer()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in answer


@pytest.mark.parametrize("drip", [False, True])
def test_a_slow_body_is_given_up_and_slows_no_one(port: int, client: httpx.Client, drip: bool) -> None:
    slow = [Raw(port) for _ in range(100)]  # more than may be answered at once
    began = time.monotonic()
    for raw in slow:
        raw.head(content_length="1000")
        raw.send(b"[")
    while time.monotonic() < began + 0.3:
        if drip:
            slow[0].send(b"1")
        assert client.post("/v1/recommend", json={"k": 1}).status_code == 200
    answers = [raw.answer() for raw in slow]
    assert time.monotonic() - began < 8
    assert {code(answer) for answer in answers} == {"body_timeout"}
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)
    for raw in slow:
        raw.__exit__()


def test_a_client_that_leaves_amid_its_body_leaves_nothing(port: int, client: httpx.Client) -> None:
    for _ in range(100):
        with Raw(port) as raw:
            raw.head(content_length="1000")
            raw.send(b"[")
    assert client.post("/v1/recommend", json={"k": 1}).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 99_000,
        b'{"context":' * 9_000,
        b'{"context": {"a": NaN}}',
        b'{"context": {"a": Infinity}}',
        b'{"context": {"a": 1e999}}',
        b'{"user_id": "\xff"}',
        b'{"candidates": [' + b",".join([b'"i"'] * 24_000) + b"]}",
        b'{"k": ' + b"9" * 5_000 + b"}",
        b"\x00",
    ],
)
def test_nonsense_is_invalid_and_the_service_lives(client: httpx.Client, body: bytes) -> None:
    response = client.post("/v1/recommend", content=body, headers=JSON)
    assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid_request")
    assert client.get("/healthz").status_code == 200


names = st.sampled_from(
    [
        "authorization",
        "x-api-key",
        "ocp-apim-subscription-key",
        "content-type",
        "accept",
        "x-request-id",
        "x-request-timeout-seconds",
        "x-session-id",
        "x-forwarded-for",
        "cookie",
        "host",
    ]
)
values = st.binary(max_size=100).map(lambda value: bytes(byte for byte in value if byte >= 0x20 and byte != 0x7F))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(headers=st.lists(st.tuples(names, values), max_size=6))
def test_no_header_is_a_fault_of_ours(port: int, headers: list[tuple[str, bytes]]) -> None:
    lines = [name.encode() + b": " + value for name, value in headers]
    with Raw(port) as raw:
        head = [b"POST /v1/recommend HTTP/1.1", *lines, b"connection: close", b"content-length: 8", b"", b'{"k": 1}']
        raw.send(b"\r\n".join(head))
        answer = raw.answer()
    status = int(answer.split(b" ", 2)[1])
    assert status in (200, 400, 415)  # 400: the server finds that it is not HTTP
    assert status == 400 or b"\r\nx-request-id: " in answer


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=300), path=st.sampled_from(["/v1/recommend", "/v1/feedback", "/v1/events"]))
def test_no_body_is_a_fault_of_ours(client: httpx.Client, body: bytes, path: str) -> None:
    assert client.post(path, content=body, headers=JSON).status_code == 422


def test_a_rotated_key_and_a_revoked_one_take_effect_at_the_next_refresh(service: Service, tmp_path: Path) -> None:
    own = Store.open(f"sqlite:///{tmp_path / 'keys.db'}")
    first = keys.create(own, "shop", "node")
    reader = keys.create(own, "report", "reader")
    ring = KeyRing(own)
    with listening(create_api(service, Edge(ring, access_log=False))) as port, httpx.Client() as client:

        def status(token: str, **headers: str) -> int:
            sent = {"Ocp-Apim-Subscription-Key": token, **headers}
            url = f"http://127.0.0.1:{port}/v1/recommend"
            return client.post(url, json={"k": 1}, headers=sent).status_code

        assert (status(first), status(reader), status("none")) == (200, 403, 401)
        second = keys.rotate(own, "shop")
        ring.refresh()
        assert (status(first), status(second)) == (200, 200)
        keys.revoke(own, first.split("_")[1])
        ring.refresh()
        assert (status(first), status(second)) == (401, 200)
    own.close()
