"""The READMEs' Python examples run as they stand."""

import re
from pathlib import Path

import pytest
import ray

ROOT = Path(__file__).parents[2]
EXAMPLES = [
    (heading, code)
    for page in ("README.md", "data/README.md", "rl/README.md", "serve/README.md", "serve/EVENTS.md")
    for heading, body in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    for code in re.findall(r"```python\n(.*?)```", body, re.DOTALL)
]
STARTS_RAY = {"From Python"}
"""Headings of examples that start a Ray."""


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(code, id=heading, marks=[pytest.mark.heavy] if heading in STARTS_RAY else [])
        for heading, code in EXAMPLES
    ],
)
def test_an_example_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAYCOMMEND_HOME", str(tmp_path / "var"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of the workers of a Ray that the example starts
    others = ray.is_initialized()
    try:
        exec(compile(code, "README", "exec"), {"__name__": "example"})
    finally:
        if not others:
            ray.shutdown()


def test_there_is_an_example_of_each_thing_that_is_added() -> None:
    headings = [heading for heading, _ in EXAMPLES]
    for thing in ("a policy", "an explorer", "a simulator", "an encoder", "an experiment kind"):
        assert f"Add {thing}" in headings
