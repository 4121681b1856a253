"""What must be there for hosts of their own on this machine."""

import subprocess
from functools import cache

import pytest

from tests.support.packages import needs_package

_PACKAGES = ("iproute2", "openssh-client", "openssh-server", "rsync")
_LINKS = "! command -v ip || { ip link add one type bridge && ip link add two type veth peer name three; }"


def needs_hosts() -> list[pytest.MarkDecorator]:
    """Return the marks of a module whose tests start hosts: it is skipped where they cannot be, and says why."""
    spaces = pytest.mark.skipif(
        not _has_spaces(), reason="needs root, and namespaces of processes and of networks with bridges"
    )
    return [spaces, *map(needs_package, _PACKAGES)]


@cache
def _has_spaces() -> bool:
    try:
        command = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", _LINKS]
        return not subprocess.run(command, check=False, capture_output=True).returncode
    except FileNotFoundError:
        return False  # no Linux
