"""`python -m serve.abtest`: a test by a file or by options, one JSON object; status 2 and the reason where refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serve.abtest import main

FILE = """
name = "greener"
control = "old"
training = "shared"

[variants.old]
policy = "champion"
share = 0.9

[variants.new]
policy = "registry:challenger"
share = 0.1
mode = "exploit"

[read]
guardrails = { purchase = 1.0 }
"""

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("RAYCOMMEND_HOME", str(tmp_path))

    def run(*arguments: str) -> dict[str, Any]:
        assert main(arguments) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return run


def test_a_file_says_all_and_options_come_before_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "greener.toml").write_text(FILE)
    first = run("start", str(tmp_path / "greener.toml"), "--name", "first", "--why", "to see", "--by", "ann")
    assert (first["test"]["name"], first["test"]["training"], first["shares"]) == (
        "first",
        "shared",
        {"old": 0.9, "new": 0.1},
    )
    assert first["test"]["read"]["guardrails"] == {"purchase": 1.0}
    assert (first["waits_for"], first["running"], first["started_by"]) == (["new"], True, "ann")
    assert run("shares", "first", "old=0.5", "new=0.5")["shares"] == {"old": 0.5, "new": 0.5}
    assert run("off", "first", "new", "--why", "worse")["switched_off"] == ["new"]
    assert run("stop", "first")["running"] is False
    shown = run("show", "first")
    assert [change["action"] for change in shown["history"]] == ["start", "shares", "switch_off", "stop"]
    assert shown["results"] is None
    again = ["--variant", "old=p,share=0.2", "--variant", "new=q,share=0.3,mode=explore"]
    second = run("start", "--name", "second", "--control", "old", "--kind", "split", *again)
    new = second["test"]["variants"]["new"]
    assert (new["policy"], new["share"], new["mode"]) == ("q", 0.3, "explore")
    assert [one["test"]["name"] for one in run("show")["tests"]] == ["second", "first"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["start", "--name", "a b", "--control", "old"], "name: "),
        (["start", "--name", "t", "--control", "x", "--variant", "a=p", "--variant", "b=q"], "control must be one of"),
        (["start", "--variant", "a=p,colour=red"], "--variant is NAME=POLICY"),
        (["start", "missing.toml"], "missing.toml: No such file"),
        (["stop", "nothing"], "there is no A/B test 'nothing'; there are none"),
        (["shares", "t", "old=much"], "shares are VARIANT=SHARE"),
    ],
)
def test_what_is_refused_is_said(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.setenv("RAYCOMMEND_HOME", str(tmp_path))
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.out == ""
