"""What Prometheus, Alertmanager and Grafana are given: accepted by their own tools, and of metrics that there are."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve.metrics.definitions import METRICS
from tests.support.packages import needs_package

DEPLOY = Path("serve/deploy")
ALERTMANAGER = DEPLOY / "alertmanager" / "alertmanager.yml"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))


def run(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_package("prometheus")
def test_prometheus_accepts_its_configuration() -> None:
    assert "1 rule files found" in run("promtool", "check", "config", DEPLOY / "prometheus" / "prometheus.yml")


@needs_package("prometheus-alertmanager")
def test_alertmanager_accepts_its_configuration() -> None:
    assert "4 receivers" in run("amtool", "check-config", ALERTMANAGER)


@needs_package("prometheus-alertmanager")
@pytest.mark.parametrize(
    ("severity", "component", "receivers"),
    [
        ("warning", "serving", "operations"),
        ("critical", "serving", "on-call"),
        ("warning", "learning", "learning"),
        ("critical", "policy", "on-call,learning"),
        ("warning", "ingest", "data"),
        ("critical", "log", "on-call,data"),
        ("warning", "storage", "data"),
    ],
)
def test_alerts_go_to_their_owners_and_critical_ones_to_who_is_on_call(
    severity: str, component: str, receivers: str
) -> None:
    labels = f"severity={severity}", f"component={component}"
    found = run("amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", *labels)
    assert found.strip() == receivers


def expressions(dashboard: Path) -> list[str]:
    panels: list[dict[str, Any]] = json.loads(dashboard.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_every_metric_is_on_a_dashboard_and_every_dashboard_is_of_metrics_that_there_are() -> None:
    shown = " ".join(expression for path in DASHBOARDS for expression in expressions(path))
    words = set(re.findall(r"\bray_raycommend_\w+", shown))
    exported = {metric.exported: metric for metric in METRICS}
    parts = {f"{n}_{part}" for n, one in exported.items() if one.kind == "histogram" for part in ("bucket", "count")}
    assert words <= exported.keys() | parts
    assert {n for n in exported if n not in words and not words & {f"{n}_bucket", f"{n}_count"}} == set()


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_has_panels_that_do_not_overlap_and_names_of_their_own(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    assert dashboard["uid"] == f"raycommend-{path.stem}"
    panels = dashboard["panels"]
    assert len({panel["title"] for panel in panels}) == len({panel["id"] for panel in panels}) == len(panels)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)


def test_grafana_is_given_our_dashboards_beside_those_of_ray() -> None:
    folder = DEPLOY / "grafana" / "provisioning"
    providers = yaml.safe_load((folder / "dashboards" / "raycommend.yml").read_text())["providers"]
    assert {one["name"]: one["options"]["path"] for one in providers} == {
        "raycommend": "$RAYCOMMEND/serve/deploy/grafana/dashboards",
        "ray": "/tmp/ray/session_latest/metrics/grafana/dashboards",
    }
    assert yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"][0]["isDefault"]
