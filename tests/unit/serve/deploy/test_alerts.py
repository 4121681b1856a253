"""Each alert fires when its cause is there, with its labels, and is silent when it is not: `promtool test rules`."""

import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from serve.metrics.definitions import METRICS
from tests.support.packages import needs_package

pytestmark = needs_package("prometheus")

ALERTS = Path("serve/deploy/prometheus/alerts.yml")
RUNBOOK = Path("serve/RUNBOOK.md")
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: {**rule, "group": group["name"]}
    for group in yaml.safe_load(ALERTS.read_text())["groups"]
    for rule in group["rules"]
}
FOLD = 'loop="v1",objective="default"'
POLICY = f'{FOLD},policy="lin"'
REPLICA = 'replica="r1"'


class Case(NamedTuple):
    """Series a minute apart, over an hour and a half, by what they mean."""

    labels: dict[str, str]
    """Of the alert, beside severity and component."""
    bad: dict[str, str]
    good: dict[str, str]


def ours(name: str, labels: str = "") -> str:
    return f"ray_raycommend_{name}{{{','.join(filter(None, (labels, REPLICA)))}}}"


def slow(name: str, labels: str, bound: float) -> tuple[dict[str, str], dict[str, str]]:
    """Return a histogram whose values are all above a bucket's bound, and one whose values are all below."""
    low, all_ = ours(f"{name}_bucket", f'{labels},le="{bound}"'), ours(f"{name}_bucket", f'{labels},le="+Inf"')
    high = ours(f"{name}_bucket", f'{labels},le="{bound * 4}"')
    bad = {low: "0x90", high: "0+60x90", all_: "0+60x90"}
    return bad, {low: "0+60x90", high: "0+60x90", all_: "0+60x90"}


def serve_latency(bound_low: str, bound_high: str) -> dict[str, str]:
    name = 'ray_serve_http_request_latency_ms_bucket{application="raycommend",route="/v1/recommend"'
    return {f'{name},le="500"}}': bound_low, f'{name},le="1000"}}': bound_high, f'{name},le="+Inf"}}': bound_high}


HTTP = 'ray_serve_num_http_requests_total{application="raycommend"}'
RISES, STAYS = "0x60 1+1x30", "0x90"
BEGUN = "_x88 5e-324x2"
"""A counter of a service that has just begun, and that has counted nothing: see `serve.metrics.meter`."""
MISSED = "3x78 _x8 3x3"
"""A counter that Prometheus has not seen for a while, and that has not risen meanwhile."""

CASES = {
    "ServiceDown": Case(
        {"job": "ray", "instance": "a"}, {'up{job="ray",instance="a"}': "0x90"}, {'up{job="ray",instance="a"}': "1x90"}
    ),
    "RequestsFail": Case(
        {},
        {ours("errors_total", 'route="/v1/recommend",code="internal"'): "0+6x90", HTTP: "0+60x90"},
        {ours("errors_total", 'route="/v1/recommend",code="invalid_request"'): "0+6x90", HTTP: "0+60x90"},
    ),
    "RecommendSlow": Case({}, serve_latency("0x90", "0+60x90"), serve_latency("0+60x90", "0+60x90")),
    "InferenceSlow": Case({"loop": "v1"}, *slow("decide_seconds", 'loop="v1"', 0.5)),
    "LearnerSilent": Case(
        {},
        {ours("learner_heard_timestamp_seconds"): "0+60x60 3600x30"},
        {ours("learner_heard_timestamp_seconds"): "0+60x90"},
    ),
    "CpuHigh": Case(
        {"instance": "a"},
        {'ray_node_cpu_utilization{instance="a"}': "95x90"},
        {'ray_node_cpu_utilization{instance="a"}': "70x90"},
    ),
    "MemoryHigh": Case(
        {"instance": "a"},
        {'ray_node_mem_used{instance="a"}': "95x90", 'ray_node_mem_total{instance="a"}': "100x90"},
        {'ray_node_mem_used{instance="a"}': "50x90", 'ray_node_mem_total{instance="a"}': "100x90"},
    ),
    "InputNodeSlow": Case(
        {"node": "shop"},
        {ours("events_total", 'node="shop",status="stored"'): "0+540x90"},
        {ours("events_total", 'node="shop",status="stored"'): "0+660x90"},
    ),
    "InputNodeSilent": Case(
        {"node": "shop"},
        {ours("input_node_last_seen_timestamp_seconds", 'node="shop"'): "0x90"},
        {ours("input_node_last_seen_timestamp_seconds", 'node="shop"'): "0+60x90"},
    ),
    "RowsRejected": Case(
        {"node": "shop"},
        {
            ours("events_total", 'node="shop",status="stored"'): "0+90x90",
            ours("events_total", 'node="shop",status="rejected"'): "0+10x90",
        },
        {
            ours("events_total", 'node="shop",status="stored"'): "0+99x90",
            ours("events_total", 'node="shop",status="rejected"'): "0+1x90",
        },
    ),
    "PreprocessingSlow": Case({"node": "shop"}, *slow("preprocessing_seconds", 'node="shop"', 1)),
    "FeedbackErrors": Case(
        {"code": "conflict"},
        {ours("errors_total", 'route="/v1/feedback",code="conflict"'): "_x88 1x2"},  # the first of its code
        {
            ours("errors_total", 'route="/v1/feedback",code="conflict"'): "7x90",
            ours("errors_total", 'route="/v1/feedback",code="gone"'): MISSED,
            ours("errors_total", 'route="/v1/feedback",code="forbidden"'): BEGUN,
            ours("errors_total", 'route="other",code="not_found"'): "0+1x90",
        },
    ),
    "LogSlow": Case({}, *slow("commit_seconds", 'kind="decisions"', 0.5)),
    "LogErrors": Case(
        {"error": "StoreBusy"},
        {ours("log_errors_total", 'error="StoreBusy"'): "0x88 1x2"},
        {
            ours("log_errors_total", 'error="StoreBusy"'): "3x90",
            ours("log_errors_total", 'error="StoreFull"'): BEGUN,
            ours("log_errors_total", 'error="StoreError"'): MISSED,
        },
    ),
    "LogBacklog": Case({}, {ours("log_pending_records"): "6000x90"}, {ours("log_pending_records"): "40x90"}),
    "LogRateLow": Case(
        {},
        {ours("log_records_total", 'kind="decisions"'): "0+59000x90"},
        {ours("log_records_total", 'kind="decisions"'): "0+61000x90"},
    ),
    "FreshnessLow": Case({"loop": "v1"}, *slow("freshness_seconds", 'loop="v1"', 30)),
    "LearnerLag": Case(
        {"loop": "v1", "objective": "default"},
        {ours("learner_lag_seconds", FOLD): "90x90"},
        {ours("learner_lag_seconds", FOLD): "1x90"},
    ),
    "LearnerFailed": Case(
        {"loop": "v1", "objective": "default"},
        {ours("learner_failed", FOLD): "1x90"},
        {ours("learner_failed", FOLD): "0x90"},
    ),
    "RowsSetAside": Case(
        {"loop": "v1", "objective": "default", "replica": "r1"},
        {ours("learner_rows_set_aside", FOLD): "0x80 1x10"},
        {ours("learner_rows_set_aside", FOLD): "1x90"},
    ),
    "UpdateSlow": Case({"loop": "v1", "objective": "default"}, *slow("learner_update_seconds", FOLD, 5)),
    "TrainingLossHigh": Case(
        {"loop": "v1", "objective": "default", "policy": "lin", "replica": "r1"},
        {
            ours("training_loss", f'{POLICY},window="recent"'): "2.1x90",
            ours("training_loss", f'{POLICY},window="all"'): "1x90",
        },
        {
            ours("training_loss", f'{POLICY},window="recent"'): "1.9x90",
            ours("training_loss", f'{POLICY},window="all"'): "1x90",
        },
    ),
    "OrphanShare": Case(
        {"loop": "v1", "objective": "default"},
        {
            ours("learner_reports_total", f'{FOLD},case="orphan"'): "0+6x90",
            ours("learner_reports_total", f'{FOLD},case="counted"'): "0+60x90",
        },
        {
            ours("learner_reports_total", f'{FOLD},case="missing"'): "0+60x90",
            ours("learner_reports_total", f'{FOLD},case="counted"'): "0+60x90",
        },
    ),
    "SnapshotOld": Case(
        {"loop": "v1", "objective": "default"},
        {ours("snapshot_age_seconds", FOLD): "700x90"},
        {ours("snapshot_age_seconds", FOLD): "30x90"},
    ),
    "RewardDrop": Case(
        {"loop": "v1", "objective": "default", "policy": "lin", "replica": "r1"},
        {
            ours("reward", f'{POLICY},window="recent",bound="high"'): "0.4x90",
            ours("reward", f'{POLICY},window="all",bound="low"'): "0.5x90",
        },
        {
            ours("reward", f'{POLICY},window="recent",bound="high"'): "0.6x90",
            ours("reward", f'{POLICY},window="all",bound="low"'): "0.5x90",
        },
    ),
    "SampleRatioMismatch": Case(
        {"test": "one", "replica": "r1"},
        {ours("abtest_sample_ratio_p", 'test="one"'): "0.0001x90"},
        {ours("abtest_sample_ratio_p", 'test="one"'): "0.4x90"},
    ),
    "EffectiveSampleSmall": Case(
        {"test": "one", "variant": "new", "replica": "r1"},
        {
            ours("off_policy_effective_decisions", 'test="one",variant="new"'): "20x90",
            ours("off_policy_decisions", 'test="one",variant="new"'): "5000x90",
        },
        {
            ours("off_policy_effective_decisions", 'test="one",variant="new"'): "20x90",
            ours("off_policy_decisions", 'test="one",variant="new"'): "50x90",
        },
    ),
    "PropensityMismatch": Case(
        {"result": "mismatch", "replica": "r1"},
        {ours("audit_decisions", 'result="mismatch"'): "1x90"},
        {ours("audit_decisions", 'result="mismatch"'): "0x90", ours("audit_decisions", 'result="repeated"'): "2000x90"},
    ),
    "PropensityDeviation": Case(
        {"replica": "r1"}, {ours("audit_propensity_deviation"): "6x90"}, {ours("audit_propensity_deviation"): "2x90"}
    ),
    "AuditOld": Case(
        {},
        {ours("audit_errors_total"): "0x60 1x1 2x1 3x30"},
        {ours("audit_timestamp_seconds"): "0+60x90", ours("audit_errors_total"): "0x90"},
    ),
    "ArchiveLag": Case({}, {ours("archive_lag_seconds"): "180000x90"}, {ours("archive_lag_seconds"): "80000x90"}),
    "ArchiveErrors": Case({}, {ours("archive_errors_total"): RISES}, {ours("archive_errors_total"): BEGUN}),
    "DiskLow": Case(
        {"folder": "home"},
        {ours("disk_free_bytes", 'folder="home"'): "15x90", ours("disk_size_bytes", 'folder="home"'): "100x90"},
        {ours("disk_free_bytes", 'folder="home"'): "25x90", ours("disk_size_bytes", 'folder="home"'): "100x90"},
    ),
    "DiskFull": Case(
        {"folder": "home"},
        {ours("disk_free_bytes", 'folder="home"'): "4x90", ours("disk_size_bytes", 'folder="home"'): "100x90"},
        {ours("disk_free_bytes", 'folder="home"'): "15x90", ours("disk_size_bytes", 'folder="home"'): "100x90"},
    ),
}


def promtool(*arguments: str | Path, text: str | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["promtool", *map(str, arguments)], input=text, capture_output=True, text=True, check=False)


def test_the_rules_are_valid_and_each_has_a_case() -> None:
    done = promtool("check", "rules", ALERTS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert RULES.keys() == CASES.keys()


@pytest.mark.parametrize("name", RULES)
def test_an_alert_fires_when_its_cause_is_there_and_only_then(name: str, tmp_path: Path) -> None:
    case, rule, tests = CASES[name], RULES[name], []
    for values, fires in ((case.bad, True), (case.good, False)):
        alert: dict[str, Any] = {"eval_time": "89m", "alertname": name}
        if fires:
            alert["exp_alerts"] = [{"exp_labels": {**rule["labels"], **case.labels}}]
        series = [{"series": one, "values": value} for one, value in values.items()]
        tests.append({"interval": "1m", "input_series": series, "alert_rule_test": [alert]})
    # What an alert says is tested apart, below: promtool compares annotations by the letter.
    bare = {key: value for key, value in rule.items() if key not in ("annotations", "group")}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "one", "rules": [bare]}]}))
    (tmp_path / "test.yml").write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "tests": tests}))
    done = promtool("test", "rules", tmp_path / "test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_alert_says_which_and_how_much(tmp_path: Path) -> None:
    rule = RULES["LearnerLag"]
    expected = {
        "exp_labels": {**rule["labels"], "loop": "v1", "objective": "default"},
        "exp_annotations": {**rule["annotations"], "description": "v1, default: 1m 30s."},
    }
    test = {
        "interval": "1m",
        "input_series": [{"series": ours("learner_lag_seconds", FOLD), "values": "90x90"}],
        "alert_rule_test": [{"eval_time": "30m", "alertname": "LearnerLag", "exp_alerts": [expected]}],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump({"rule_files": [str(ALERTS.absolute())], "tests": [test]}))
    done = promtool("test", "rules", tmp_path / "test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", RULES)
def test_each_alert_has_severity_component_and_a_paragraph_of_the_runbook(name: str) -> None:
    rule = RULES[name]
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["group"] == f"raycommend-{rule['labels']['component']}"
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"serve/RUNBOOK.md#{name.lower()}"
    _, _, paragraph = RUNBOOK.read_text().partition(f"### {name}\n\n")
    assert len(paragraph.partition("\n#")[0]) > 100
    assert paragraph.startswith(f"**{rule['labels']['severity']}**")


def test_alerts_are_of_metrics_that_there_are() -> None:
    exported = {metric.exported for metric in METRICS}
    known = exported | {f"{one.exported}_bucket" for one in METRICS if one.kind == "histogram"}
    for name, rule in RULES.items():
        words = {word for word in rule["expr"].replace("(", " ").replace("{", " ").split() if "raycommend_" in word}
        words = {word.split("[")[0].rstrip(")") for word in words}
        assert words <= known, name
