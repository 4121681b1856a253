"""A real Prometheus and a real Alertmanager with what the project ships, quicker, and a webhook that hears alerts."""

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from starlette.types import Receive, Scope, Send

from tests.support.ports import free_port
from tests.support.servers import listening
from tests.support.services import wait_for

DEPLOY = Path("serve/deploy")


class Prometheus:
    """One that runs."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=30)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an expression now."""
        answer = self._client.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", answer
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def value(self, expression: str) -> float | None:
        """Return the one value of an expression, None if there is none."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else None

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        return {one["metric"]["alertname"] for one in self.query('ALERTS{alertstate="firing"}')}

    def up(self) -> bool:
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False


class Webhook:
    """Hears what Alertmanager delivers."""

    def __init__(self) -> None:
        self.heard = list[tuple[str, dict[str, Any]]]()
        """Receivers, each with an alert."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.heard += [(scope["path"].strip("/"), alert) for alert in json.loads(body)["alerts"]]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def receivers(self, alertname: str) -> set[str]:
        """Return who has heard of an alert."""
        return {receiver for receiver, alert in self.heard if alert["labels"]["alertname"] == alertname}


@contextmanager
def webhook() -> Iterator[tuple[Webhook, int]]:
    """Listen, and yield it with its port."""
    made = Webhook()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await made(scope, receive, send)

    with listening(app) as port:
        yield made, port


@contextmanager
def alertmanager(folder: Path, webhook_port: int) -> Iterator[int]:
    """Start one with the shipped configuration, whose receivers are the webhook; yields its port."""
    config = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text())
    for receiver in config["receivers"]:
        receiver["webhook_configs"] = [{"url": f"http://127.0.0.1:{webhook_port}/{receiver['name']}"}]
    for route in (config["route"], *config["route"]["routes"]):
        route["group_wait"] = route["group_interval"] = "1s"  # of a group that fires already, too
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = ["prometheus-alertmanager", f"--config.file={folder / 'alertmanager.yml'}", "--cluster.listen-address="]
    command += [f"--storage.path={folder / 'alertmanager'}", f"--web.listen-address=127.0.0.1:{port}"]
    with _running(command):
        yield port


@contextmanager
def prometheus_server(folder: Path, metrics_port: int, alertmanager_port: int) -> Iterator[Prometheus]:
    """Start one with the shipped configuration and rules, which finds the service as it finds Ray's machines."""
    found = folder / "discovery.json"
    found.write_text(json.dumps([{"labels": {"job": "ray"}, "targets": [f"127.0.0.1:{metrics_port}"]}]))
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str((DEPLOY / "prometheus" / "alerts.yml").absolute())]
    config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager_port}"]}]}]
    [ray] = [job for job in config["scrape_configs"] if job["job_name"] == "ray"]
    ray["file_sd_configs"] = [{"files": [str(found)]}]
    config["scrape_configs"] = [ray]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    with _running([*command, f"--web.listen-address=127.0.0.1:{port}"]):
        made = Prometheus(f"http://127.0.0.1:{port}")
        wait_for(made.up, 60)
        yield made


@contextmanager
def _running(command: Sequence[str]) -> Iterator[None]:
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(command, stdout=printed, stderr=printed)
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)
