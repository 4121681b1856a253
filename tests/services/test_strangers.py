"""A service on one machine: what of it can be reached from other hosts lets nobody in without a key or Ray's token."""

from contextlib import suppress
from ipaddress import ip_address

import psutil
import pytest

from tests.support.hosts.sockets import probe
from tests.support.services import Running

pytestmark = pytest.mark.heavy


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
