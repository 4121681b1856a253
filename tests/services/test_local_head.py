"""The commands of serve/OPERATING.md, as written but for the ports, against a head with token authentication. Slow."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import yaml

from rl.simulators.market.generated import GeneratedMarketConfig, generate_market, generate_transactions
from serve.app import ray_environment
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
pytestmark = pytest.mark.slow


@pytest.fixture
def home(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    market = generate_market(GeneratedMarketConfig(), rng)
    generate_transactions(market, 3_000, rng).to_parquet(tmp_path / "transactions.parquet")
    return tmp_path


@pytest.fixture
def head(home: Path) -> Iterator[dict[str, str]]:
    """Start a head of its own, and yield the environment that its clients need."""
    token, dashboard = home / "token", free_port()
    token.write_text("0123456789abcdef" * 4)
    environment = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "RAYCOMMEND_HOME": str(home),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        **ray_environment(drain_s=1),
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}",
        "RAY_DASHBOARD_ADDRESS": f"http://127.0.0.1:{dashboard}",
    }
    ports = [f"--dashboard-port={dashboard}"]
    ports += [f"--{name}={free_port()}" for name in ("port", "ray-client-server-port", "dashboard-agent-listen-port")]
    folder = tempfile.mkdtemp(prefix="ray")  # not in the test's own folder: a socket's path must be short
    command = ["ray", "start", "--head", "--block", "--num-cpus=2", f"--temp-dir={folder}", *ports]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_head(process, environment)
        yield environment
    finally:
        stop(process)
        shutil.rmtree(folder, ignore_errors=True)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Stop the head and what it started, and nothing else."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    process.terminate()
    _, left = psutil.wait_procs(family, timeout=15)
    for survivor in left:
        survivor.kill()
    process.wait(15)


def wait_for_head(process: "subprocess.Popen[bytes]", environment: dict[str, str]) -> None:
    deadline = time.monotonic() + 60
    while subprocess.run(["ray", "job", "list"], env=environment, capture_output=True).returncode:
        assert process.poll() is None, "the head has stopped"
        assert time.monotonic() < deadline, "the head did not start"


def run(environment: dict[str, str], *command: str) -> str:
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def report(output: str) -> dict[str, object]:
    """Return the JSON that a job's command has printed."""
    found: dict[str, object] = json.loads(next(line for line in output.splitlines() if line.startswith("{")))
    return found


def test_jobs_and_service(head: dict[str, str], home: Path) -> None:
    submit = ("ray", "job", "submit", "--working-dir", ".", "--", "python", "-m")
    transactions = str(home / "transactions.parquet")
    ingested = report(run(head, *submit, "data.ingest", "--node", "online_retail", transactions))
    assert ingested["archive"] == str(home / "archive")
    trained = report(run(head, *submit, "rl.train", "--decisions", "500"))
    assert trained["events"] == ingested["events"]

    config = yaml.safe_load((ROOT / "serve/config.yaml").read_text())
    config["http_options"]["port"] = free_port()
    (home / "config.yaml").write_text(yaml.safe_dump(config))
    run(head, "serve", "deploy", str(home / "config.yaml"))
    with httpx.Client(base_url=f"http://127.0.0.1:{config['http_options']['port']}") as client:
        answer = ask(client)
    assert answer["policy"]["version"].startswith(str(trained["digest"]))
    run(head, "serve", "shutdown", "-y")


def ask(client: httpx.Client) -> dict[str, dict[str, str]]:
    deadline = time.monotonic() + 90
    while True:
        try:
            response = client.post("/v1/recommend", json={"user_id": "12347", "k": 3})
            if response.status_code == 200:
                answer: dict[str, dict[str, str]] = response.json()
                return answer
        except httpx.TransportError:
            pass  # not up yet
        assert time.monotonic() < deadline, "the service did not come up"
        time.sleep(0.5)


def test_without_the_token_nothing_is_let_in(head: dict[str, str]) -> None:
    refused = subprocess.run(
        ["ray", "job", "submit", "--", "true"],
        env={**head, "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
    )
    assert refused.returncode != 0
    assert re.search("401|[Aa]uthenti", refused.stdout + refused.stderr)
