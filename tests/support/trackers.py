"""MLflow's tracking server, with its artefacts, in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.ports import free_port
from tests.support.services import wait_for


@contextmanager
def tracking_server(folder: Path, address: str = "127.0.0.1") -> Iterator[str]:
    """Start a server that keeps everything in a folder, and yield its URL."""
    url = f"http://{address}:{free_port()}"
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", address, "--port", url.rsplit(":", 1)[1]),
        *("--workers", "1", "--allowed-hosts", url.removeprefix("http://")),
        *(
            "--backend-store-uri",
            f"sqlite:///{folder / 'mlflow.db'}",
            "--artifacts-destination",
            str(folder / "artefacts"),
        ),
    ]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "1"}
        )
    try:
        wait_for(lambda: _answers(url), 120)
        yield url
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False
