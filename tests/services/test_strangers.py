"""A service on one machine: what of it can be reached from other hosts lets nobody in without a key or Ray's token."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.hosts.sockets import probe
from tests.support.services import Running

pytestmark = pytest.mark.heavy
_HEAD = """
import sys, ray
from ray._common.usage import usage_lib
from data.cluster import start_ray
start_ray(1, own=True, jobs=True)
print(ray._private.worker.get_dashboard_url(), usage_lib.usage_stats_enabled(), flush=True)
sys.stdin.read()
"""


@contextmanager
def head_that_takes_jobs(home: Path) -> Iterator[str]:
    """Start a Ray of its own in a home where nobody has used Ray before, and yield the address of its dashboard."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    head = subprocess.Popen(
        [sys.executable, "-c", _HEAD],
        env=environment | {"HOME": str(home)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with head:
        assert head.stdout is not None
        url, reports_usage = head.stdout.readline().split()
        assert reports_usage == "False"
        yield f"http://{url}"
        head.communicate(timeout=60)
    assert head.returncode == 0


def reachable(process: psutil.Process) -> set[tuple[str, int]]:
    """Return where a process listens for other hosts; nowhere, if it has ended."""
    found = set()
    with suppress(psutil.NoSuchProcess):
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and not ip_address(connection.laddr.ip).is_loopback:
                found.add((connection.laddr.ip, connection.laddr.port))
    return found


def test_what_listens_for_other_hosts_lets_no_stranger_in(server: Running) -> None:
    listening = set().union(*map(reachable, server.find("")))
    answers = {port: probe("127.0.0.1" if ip_address(ip).is_unspecified else ip, port) for ip, port in listening}
    assert "UNAUTHENTICATED" in answers.values()
    assert set(answers.values()) <= {"UNAUTHENTICATED", "401", "numbers", "nothing"}, answers


def test_a_head_that_takes_jobs_takes_none_from_who_has_no_token(tmp_path: Path) -> None:
    with head_that_takes_jobs(tmp_path) as dashboard:
        token = (tmp_path / ".ray" / "auth_token").read_text()
        url = f"{dashboard}/api/jobs/"
        assert httpx.get(url).status_code == 401
        assert httpx.post(url, json={"entrypoint": "true"}).status_code == 401
        assert httpx.get(url, headers={"Authorization": f"Bearer {token}"}).status_code == 200
