"""A network of hosts on this machine: a bridge, at which this machine has the address `GATEWAY`."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

_SUBNET: Final = "10.55.{}."
_TRIES = 200


@dataclass(frozen=True)
class Network:
    """A bridge of this machine."""

    bridge: str
    number: int
    """Of the subnet."""

    def address(self, host: int) -> str:
        return f"{_SUBNET.format(self.number)}{host}"

    @property
    def subnet(self) -> str:
        return f"{self.address(0)}/24"

    @property
    def gateway(self) -> str:
        """The address of this machine: what its processes serve there, the hosts can reach."""
        return self.address(254)

    def plug(self, host: int, pid: int) -> str:
        """Give the network namespace of a process an interface at the bridge, and return the name of our end."""
        ours = f"{self.bridge}.{host}"
        ip(f"link add {ours} type veth peer name eth0 netns {pid}")
        ip(f"link set {ours} master {self.bridge} up")
        inside = ["nsenter", "--net", f"--target={pid}", "ip"]
        for command in (
            "link set lo up",
            f"address add {self.address(host)}/24 dev eth0",
            "link set eth0 up",
            f"route add default via {self.gateway}",
        ):
            subprocess.run([*inside, *command.split()], check=True)
        return ours


def unplug(link: str) -> None:
    """Remove an interface, unless its other end has gone with the host."""
    with suppress(subprocess.CalledProcessError):
        ip(f"link delete {link}")


def ip(command: str) -> None:
    """Run `ip` on this machine.

    Raises:
        CalledProcessError: it failed.
    """
    subprocess.run(["ip", *command.split()], check=True, stderr=subprocess.PIPE)


@contextmanager
def network() -> Iterator[Network]:
    """Make a bridge with a subnet that no other run has, and remove it at the end."""
    for number in ((os.getpid() + n) % _TRIES for n in range(_TRIES)):
        made = Network(f"rayc{number}", number)
        try:
            ip(f"link add {made.bridge} type bridge")
        except subprocess.CalledProcessError:
            continue  # another run's
        break
    else:
        raise RuntimeError("no subnet is free")
    try:
        ip(f"address add {made.gateway}/24 dev {made.bridge}")
        ip(f"link set {made.bridge} up")
        yield made
    finally:
        ip(f"link delete {made.bridge}")
