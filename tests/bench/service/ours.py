"""Our service as a process: `python -m tests.bench.service.ours HOME PORT [--default-proxy] [--replicas N]`."""

import argparse
import json
import os
import signal
from pathlib import Path

import ray

from serve.app import ray_environment, running
from serve.config import ServiceConfig


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.service.ours", description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("--default-proxy", action="store_true", help="Serve's own proxy, with Serve's defaults")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--config", type=json.loads, default={}, help="what of ServiceConfig is not the default, JSON")
    options = parser.parse_args()
    if not options.default_proxy:
        os.environ.update(ray_environment(drain_s=1))
    os.environ["RAYCOMMEND_HOME"] = str(options.home)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    ray.init("local", num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False)
    # With a home in the configuration its own log counts. Ray's processes have the environment of Ray's start.
    home = {} if "RAYCOMMEND_STORE" in os.environ else {"home": str(options.home)}
    config = ServiceConfig.model_validate({**options.config, **home})
    with running(config, options.port, num_replicas=options.replicas):
        signal.sigwait({signal.SIGTERM})
    ray.shutdown()


if __name__ == "__main__":
    main()
