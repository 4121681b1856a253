"""The switch of serve/SECURITY.md: with it Ray's processes talk to those alone that the authority vouches for."""

import socket
from collections.abc import Iterator

import grpc
import psutil
import pytest

from serve.config import ServiceConfig
from tests.support.certificates import Certificate, make_authority, make_certificate
from tests.support.packages import needs_package
from tests.support.services import Running, service, wait_for
from tests.support.shops import save_policies, small_market

pytestmark = [pytest.mark.slow, needs_package("openssl")]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def node(authority: Certificate) -> Certificate:
    """For all addresses of this machine."""
    addresses = {a.address for found in psutil.net_if_addrs().values() for a in found if a.family == socket.AF_INET}
    return make_certificate(authority, ["DNS:localhost", *(f"IP:{address}" for address in sorted(addresses))])


@pytest.fixture(scope="module")
def running(authority: Certificate, node: Certificate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("home")
    save_policies(home, small_market()[1])
    switch = {
        "RAY_USE_TLS": "1",
        "RAY_TLS_SERVER_CERT": str(node.certificate),
        "RAY_TLS_SERVER_KEY": str(node.key),
        "RAY_TLS_CA_CERT": str(authority.certificate),
    }
    with service(ServiceConfig(policies={"linear_thompson": 1}, home=str(home)), 1, **switch) as started:
        started.wait()
        yield started


def test_the_service_answers_and_learns(running: Running) -> None:
    """A replica is sent the learner's versions by Serve, and others' by Ray."""
    decided = running.client.post("/v1/recommend", json={"user_id": "u", "k": 1}).json()
    told = running.client.post("/v1/feedback", json={"decision_id": decided["decision_id"], "kind": "click"}).json()
    position = told["results"][0]["position"]
    assert position
    wait_for(lambda: running.learned_by_all(position), 60)


def test_who_has_no_certificate_is_not_talked_to(running: Running, authority: Certificate, node: Certificate) -> None:
    (server,) = running.find("gcs_server")
    port = next(one.laddr.port for one in server.net_connections("tcp") if one.status == psutil.CONN_LISTEN)
    trust = authority.certificate.read_bytes()
    no_certificate = grpc.ssl_channel_credentials(trust)
    ours = grpc.ssl_channel_credentials(trust, node.key.read_bytes(), node.certificate.read_bytes())
    target = f"127.0.0.1:{port}"
    for channel, code in (
        (grpc.insecure_channel(target), grpc.StatusCode.UNAVAILABLE),
        (grpc.secure_channel(target, no_certificate), grpc.StatusCode.UNAVAILABLE),
        (grpc.secure_channel(target, ours), grpc.StatusCode.UNAUTHENTICATED),  # who is let in needs the token too
    ):
        with channel, pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetAllNodeInfo")(b"", timeout=10)
        assert error.value.code() == code
