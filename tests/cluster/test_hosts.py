"""Hosts on one machine see the network between them and nothing else of each other, and leave nothing behind."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.cluster_files import ROOT
from tests.support.hosts.host import Host, host, make_key
from tests.support.hosts.marks import needs_hosts
from tests.support.hosts.network import ip, network
from tests.support.services import wait_for

pytestmark = [*needs_hosts(), pytest.mark.heavy]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Host]]:
    folder = tmp_path_factory.mktemp("hosts")
    key = make_key(folder)
    with ExitStack() as stack:
        net = stack.enter_context(network())
        yield [
            stack.enter_context(host(net, number, f"host-{number}", folder, key.with_suffix(".pub")))
            for number in (1, 2)
        ]
    assert not [name for name in links() if name.startswith(net.bridge)]
    assert sorted(path.name for path in folder.iterdir()) == ["key", "key.pub"]
    assert str(folder) not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


def links() -> list[str]:
    return [path.name for path in Path("/sys/class/net").iterdir()]


def test_a_host_sees_its_own_processes_only(hosts: list[Host], tmp_path: Path) -> None:
    one, other = hosts
    sleeping = one.start("exec sleep 1234", tmp_path / "log")
    assert "sleep 1234" in one.run("ps -eo args").stdout
    assert "sleep 1234" not in other.run("ps -eo args").stdout
    assert len(one.find("sleep 1234")) == 1
    assert not other.find("sleep 1234")
    one.run("kill $(pgrep -x sleep)")
    assert sleeping.wait(10)


def test_a_host_has_its_own_home_and_temporary_files(hosts: list[Host]) -> None:
    one, other = hosts
    one.run("touch ~/mine /tmp/mine /dev/shm/mine")
    assert other.run("ls ~/mine /tmp/mine /dev/shm/mine", check=False).returncode
    assert not any(Path(path).exists() for path in ("/tmp/mine", "/dev/shm/mine"))
    assert one.run("hostname").stdout == "host-1\n"


def test_hosts_reach_each_other_by_ssh_with_the_key(hosts: list[Host]) -> None:
    one, other = hosts
    options = "-o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=3"
    one.run("mkdir -p ~/.ssh && cat > ~/.ssh/k && chmod 600 ~/.ssh/k <<< ''")
    key = (one.folder.parent / "key").read_text()
    (one.folder / "home" / ".ssh" / "k").write_text(key)
    assert "host-2" in one.run(f"ssh {options} -i ~/.ssh/k root@{other.address} hostname").stdout
    assert one.run(f"ssh {options} root@{other.address} hostname", check=False).returncode == 255


def test_a_host_that_is_cut_is_not_reached_until_it_is_mended(hosts: list[Host]) -> None:
    one, other = hosts
    reach = f"timeout 1 bash -c '</dev/tcp/{other.address}/22'"
    other.cut()
    assert one.run(reach, check=False).returncode
    other.mend()
    one.run(f"for i in $(seq 50); do {reach} && exit; done; exit 1")


OWNER = """
import sys, time
from pathlib import Path
from tests.support.hosts.host import host
from tests.support.hosts.network import network

with network() as net, host(net, 1, "host", Path(sys.argv[1]), Path(sys.argv[2])) as one:
    print(one.pid, net.bridge, flush=True)
    time.sleep(600)
"""


def test_a_test_that_is_killed_leaves_no_host_running(tmp_path: Path) -> None:
    key = make_key(tmp_path).with_suffix(".pub")
    owner = subprocess.Popen([sys.executable, "-c", OWNER, tmp_path, key], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert owner.stdout is not None
    pid, bridge = owner.stdout.readline().split()
    owner.kill()
    try:
        wait_for(lambda: not Path(f"/proc/{pid}").exists(), 10)
    finally:
        owner.wait()
        ip(f"link delete {bridge}")
