"""What listens on a host, and what whoever has neither token nor key is answered there."""

import pkgutil
import re
import socket
from dataclasses import dataclass
from functools import cache
from importlib import import_module

import grpc
import ray.core.generated
import ray.serve.generated

from tests.support.cluster_files import ROOT
from tests.support.hosts.host import Host

PAGE = ROOT / "serve" / "SECURITY.md"
_SILENT_S = 0.5  # a server that says the first word says it sooner
_TIMEOUT_S = 10.0
_REQUEST = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
_OF_CONSOLE = (
    b"GET /console/shop HTTP/1.1\r\nHost: x\r\nHX-Request: true\r\n\r\n"  # a browser is sent to the login page
)
_NOT_IN_PYTHON = (  # services of which Ray's Python has no description
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "/ray.rpc.ObjectManagerService/FreeObjects",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.ObjectManagerService/Push",
)
_METRICS = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
_TYPE = b"# TYPE "  # what Prometheus reads


@dataclass(frozen=True)
class Listener:
    """A socket that takes connections."""

    address: str
    port: int
    program: str
    """Command line of the process whose it is."""


@dataclass(frozen=True)
class Row:
    """What serve/SECURITY.md says of some ports."""

    ports: range
    program: str
    """What the command line has in it."""
    answer: str
    """What a stranger gets: see `probe`."""

    def matches(self, listener: Listener) -> bool:
        return listener.port in self.ports and self.program in listener.program


def rows() -> list[Row]:
    """Return the rows of the page's table."""
    table = re.findall(
        r"^\| ([0-9 to]+|any) \| `([^`|]+)` \|.*\| \*\*([^*|]+)\*\*[^|]*\|$", PAGE.read_text(), re.MULTILINE
    )
    return [Row(_ports(ports), program, answer) for ports, program, answer in table]


def _ports(text: str) -> range:
    if text == "any":
        return range(1, 65_536)
    first, _, last = text.partition(" to ")
    return range(int(first), int(last or first) + 1)


def listeners(host: Host) -> list[Listener]:
    """Return what listens on a host."""
    lines = dict(line.split(maxsplit=1) for line in host.run("ps -ww -eo pid=,args=").stdout.splitlines())
    found = []
    for line in host.run("ss --no-header --listening --tcp --numeric --processes").stdout.splitlines():
        address, _, port = line.split()[3].rpartition(":")
        pid = re.search(r"pid=(\d+)", line)
        found.append(Listener(address.strip("[]"), int(port), lines.get(pid[1], "") if pid else ""))
    return found


def probe(address: str, port: int) -> str:
    """Return in a word what is answered at a port to a stranger.

    `nothing`: no connection. `SSH`: who has no key of its own is sent away. `401`: HTTP, a key or a token is missing.
    `numbers`: metrics for Prometheus. `UNAUTHENTICATED`: gRPC, by every method that there is. Otherwise what came.
    """
    try:
        said = _say(address, port, b"")
    except OSError:
        return "nothing"
    if said.startswith(b"SSH-"):
        return "SSH"
    status = _status(_say(address, port, _REQUEST))
    if status == 404 and (of_console := _status(_say(address, port, _OF_CONSOLE))) != 404:
        return str(of_console)
    if status in (404, 405, 200) and _TYPE in _say(address, port, _METRICS, _TYPE):
        return "numbers"
    if status is not None:
        return str(status)
    return _ask_grpc(f"{address}:{port}")


def _say(address: str, port: int, words: bytes, until: bytes = b"") -> bytes:
    """Return what is answered, at least so much that it has some bytes in it; with none, what comes first."""
    with socket.create_connection((address, port), _TIMEOUT_S) as connection:
        connection.sendall(words)
        connection.settimeout(_TIMEOUT_S if words else _SILENT_S)
        said = b""
        try:
            while (more := connection.recv(65_536)) and until not in (said := said + more):
                pass
        except (TimeoutError, ConnectionError):
            pass
        return said


def _status(answer: bytes) -> int | None:
    found = re.match(rb"HTTP/1\.[01] (\d{3}) ", answer)
    return int(found[1]) if found else None


def _ask_grpc(target: str) -> str:
    codes = set()
    with grpc.insecure_channel(target) as channel:
        for method in _methods():
            try:
                channel.unary_unary(method)(b"", timeout=_TIMEOUT_S)
                codes.add(f"{method} OK")
            except grpc.RpcError as error:
                code = error.code().name
                codes.add(code if code in ("UNAUTHENTICATED", "UNIMPLEMENTED") else f"{method} {code}")
    return (
        "UNAUTHENTICATED" if codes | {"UNIMPLEMENTED"} == {"UNAUTHENTICATED", "UNIMPLEMENTED"} else str(sorted(codes))
    )


@cache
def _methods() -> tuple[str, ...]:
    """Return every method of every service that Ray knows."""
    found = [*_NOT_IN_PYTHON]
    for package in (ray.core.generated, ray.serve.generated):
        for module in pkgutil.iter_modules(package.__path__):
            if module.name.endswith("_pb2"):
                services = import_module(f"{package.__name__}.{module.name}").DESCRIPTOR.services_by_name.values()
                found += [f"/{service.full_name}/{method.name}" for service in services for method in service.methods]
    return tuple(sorted(found))
