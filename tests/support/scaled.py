"""A service that is scaled by its load, and says how many replicas it has."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.ports import free_port

# In a process of its own: Ray must start with HAProxy in the environment. It prints how many replicas run, as Serve's
# status has it, once in a while.
_SERVER = """
import json, os, signal, sys
from serve import app
from serve.app import ray_environment, running
from serve.config import ServiceConfig
os.environ.update(ray_environment(drain_s=1))
import ray
from ray import serve
home, port, options, waiting = sys.argv[1:]
if waiting == "waiting":
    from tests.support.waiting import Gateway
    app.Gateway = Gateway
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
config = ServiceConfig(policies={"linear_thompson": 1}, home=home, access_log=False)
with running(config, int(port), **json.loads(options)):
    print("ready", flush=True)
    while signal.sigtimedwait({signal.SIGTERM}, 0.5) is None:
        replicas = serve.status().applications["raycommend"].deployments["Gateway"].replica_states
        print(replicas.get("RUNNING", 0), flush=True)
ray.shutdown()
"""


class Watched:
    """A service that says how many replicas it has."""

    def __init__(self, process: "subprocess.Popen[str]", url: str) -> None:
        self.url, self.replicas = url, 0
        self._process = process
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.replicas = int(line)


@contextmanager
def watched(home: Path, scaling: Mapping[str, Any], *, waiting: bool = False, **options: Any) -> Iterator[Watched]:
    """Start a service, yield it once it answers, and end it.

    Args:
        home: where the policy `linear_thompson` lies.
        scaling: Serve's `autoscaling_config`.
        waiting: see `tests.support.waiting`.
        options: others of the deployment that answers.
    """
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    given = json.dumps({"autoscaling_config": scaling, "ray_actor_options": {"num_cpus": 0.1}, **options})
    command = [sys.executable, "-c", _SERVER, str(home), str(port), given, "waiting" if waiting else ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            assert any(line == "ready\n" for line in process.stdout), "the service did not start"
            yield Watched(process, f"http://127.0.0.1:{port}")
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 0
