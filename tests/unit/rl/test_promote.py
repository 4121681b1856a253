"""A challenger becomes the champion, or does not, and a promotion is taken back: the commands, beside a real MLflow."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from data.log.store import Store
from data.settings import Settings
from rl import evaluate, promote, rollback, trials
from rl.artefacts.errors import ArtefactError
from rl.downloads import fetch
from rl.gate import conformance
from rl.gate.files import EVIDENCE, PAGE, REPORT, ReportError, argue_again, read
from rl.promotions import promote as move
from rl.registry import RegisteredPolicy, register, resolve, resolve_alias, show
from rl.trial_records import list_trials
from rl.trials import try_challengers
from tests.support.clocks import Clock
from tests.support.gates import by_chance, learner, log_by_chance

GATE = """
look = 250
slowdown = 1000.0
guards = ["page"]
[reward]
wait_s = 60.0
"""
N = 1_500

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, mlflow_tables: Path) -> Iterator[Path]:
    """One log for all; each test has a model of its own."""
    home = tmp_path_factory.mktemp("home")
    shutil.copy(mlflow_tables, home)
    clock = Clock()
    with closing(Store.open(f"sqlite:///{home / 'store.db'}", clock)) as store:
        log_by_chance(store, clock, by_chance(home / "policies").digest, N)
    learner(home / "policies")
    by_chance(home / "policies", "other")
    (home / "gate.toml").write_text(GATE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYCOMMEND_HOME", str(home))
        patch.setattr(conformance, "_TIMED", 50)
        yield home


@pytest.fixture
def model(request: pytest.FixtureRequest, home: Path) -> str:
    """Versions 1 champion, 2 better, 3 not better."""
    name, settings = str(request.node.name), Settings(home=home)
    for number, (policy, alias) in enumerate((("chance", "champion"), ("learner", None), ("other", None)), start=1):
        assert register(settings, home / "policies" / policy, alias, name).version == number
    return name


def run(command: Any, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    status = command.main(arguments)
    out = capsys.readouterr().out
    return status, json.loads(out) if out else None


def champion(home: Path, model: str) -> int:
    found = resolve_alias(Settings(home=home), model)
    assert found is not None
    return found.version


def test_who_is_better_replaces_the_champion_and_is_taken_back(
    home: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--model", model, "--gate", str(home / "gate.toml"), "--out", str(home / model))
    status, found = run(promote, capsys, "2", *options)
    assert (status, found["promote"], found["promoted"], found["forced"]) == (0, True, True, None)
    assert champion(home, model) == 2
    report = read(Path(found["report"]).parent)
    assert (report.challenger.version, report.champion.version) == (2, 1)
    assert report.conformance is not None
    assert set(report.conformance.promises.values()) == {None}
    assert report.level.level == 0.025
    row = show(Settings(home=home), model)["versions"][1]
    assert row["promoted"].startswith("20")
    assert "forced" not in row
    # What the registry has of it says the same again.
    status, verdict = run(evaluate, capsys, "--again", "2", "--model", model)
    assert (status, verdict["promote"]) == (0, True)
    assert run(rollback, capsys, "--model", model) == (
        0,
        {"model": model, "alias": "champion", "was": 2, "now": 1},
    )
    assert champion(home, model) == 1
    assert show(Settings(home=home), model)["versions"][1]["rolled_back"].startswith("20")
    status, _ = run(rollback, capsys, "--model", model)
    assert (status, champion(home, model)) == (2, 1)


def test_who_is_not_better_is_not_promoted_but_by_force(
    home: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--model", model, "--gate", str(home / "gate.toml"), "--out", str(home / model))
    status, found = run(promote, capsys, "3", *options)
    assert (status, found["promoted"]) == (1, False)
    assert "not above the margin 0" in found["against"][0]
    assert champion(home, model) == 1
    status, found = run(promote, capsys, "3", *options, "--force", "the <shop> asked for it")
    assert (status, found["promote"], found["promoted"]) == (0, False, True)
    assert champion(home, model) == 3
    folder = Path(found["report"]).parent
    assert read(folder).forced == "the <shop> asked for it"
    assert "Promoted by force: the &lt;shop&gt; asked for it" in (folder / PAGE).read_text()
    assert show(Settings(home=home), model)["versions"][0]["forced"] == "the <shop> asked for it"
    now = resolve_alias(Settings(home=home), model)
    assert now is not None
    assert now.forced == "the <shop> asked for it"
    assert argue_again(folder).promote is False  # by force or not, the evidence says what it says


def test_challengers_share_the_gates_alpha(home: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Two at once, one of them again alone, another champion: each keeps the level that it was given first."""
    options = ("--model", model, "--gate", str(home / "gate.toml"), "--out", str(home / model))
    status, found = run(evaluate, capsys, "--challenger", "2", "--challenger", "3", *options)
    assert (status, [one["level"] for one in found]) == (0, [0.0125, 0.0125])
    assert [one["promote"] for one in found] == [True, False]
    assert champion(home, model) == 1
    _, found = run(evaluate, capsys, "--challenger", "2", *options)
    assert found[0]["level"] == 0.0125
    _, found = run(evaluate, capsys, "--challenger", "1", "--champion", "3", *options)
    assert found[0]["level"] == 0.025
    _, found = run(evaluate, capsys, "--challenger", str(home / "policies" / "learner"), "--no-track", *options)
    assert found[0]["level"] == 0.025
    assert found[0]["challenger"]["version"] is None


@pytest.mark.parametrize("fails", ["create_run", "log_artifacts"])
def test_where_the_registry_fails_at_the_second_challenger_no_trial_goes_on(
    home: Path, model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    done, usual = list[int](), getattr(MlflowClient, fails)

    def fail(client: MlflowClient, *arguments: Any, **options: Any) -> Any:
        done.append(1)
        if len(done) == 2:
            raise MlflowException("no space left")
        return usual(client, *arguments, **options)

    monkeypatch.setattr(MlflowClient, fails, fail)
    options = ("--model", model, "--gate", str(home / "gate.toml"), "--out", str(home / model))
    assert evaluate.main(["--challenger", "2", "--challenger", "3", *options]) == 2
    assert "no space left" in capsys.readouterr().err
    states = [one.status for one in list_trials(Settings(home=home), model)]
    assert states == (["failed"] if fails == "create_run" else ["failed", "done"])


def test_who_asks_for_something_else_looks_anew(home: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Rewards tried one after the other until one lets it through are as many looks, with a level each."""
    levels = []
    for number, extra in enumerate(("", "horizon = 10_000\n", "margin = 0.001\n", "")):
        path = home / f"{model}{number}.toml"
        path.write_text(extra + GATE)
        options = ("--model", model, "--gate", str(path), "--out", str(home / model))
        _, found = run(evaluate, capsys, "--challenger", "2", *options)
        levels.append(found[0]["level"])
    assert levels == [0.025, 0.05 / 6, 0.025, 0.025]


def test_force_needs_neither_a_log_nor_the_champions_files(
    home: Path, model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = ("--model", model, "--out", str(tmp_path))
    monkeypatch.setenv("RAYCOMMEND_STORE", f"sqlite:///{tmp_path / 'none.db'}")
    assert promote.main(["3", *options]) == 2
    assert f"no log at {tmp_path / 'none.db'}" in capsys.readouterr().err
    assert not (tmp_path / "none.db").exists()
    status, found = run(promote, capsys, "3", *options, "--force", "the first weeks")
    assert (status, found["promoted"], champion(home, model)) == (0, True, 3)
    assert read(Path(found["report"]).parent).forced == "the first weeks"
    assert "no log at" in found["verdict"]
    status, verdict = run(evaluate, capsys, "--again", "3", "--model", model)
    assert (status, verdict["promote"]) == (0, False)
    monkeypatch.delenv("RAYCOMMEND_STORE")

    def gone(settings: Settings, version: RegisteredPolicy) -> Path:
        if version.version == 3:
            raise ArtefactError("version 3 is refused: its files are gone")
        return fetch(settings, version)

    monkeypatch.setattr(trials, "fetch", gone)
    assert promote.main(["1", *options]) == 2
    assert "its files are gone" in capsys.readouterr().err
    status, found = run(promote, capsys, "1", *options, "--force", "it must answer")
    assert (status, champion(home, model)) == (0, 1)
    assert found["verdict"].startswith("Not promoted: the log cannot tell, the champion: version 3 is refused")


def test_the_verdict_follows_from_what_is_stored_or_it_is_said(
    home: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--model", model, "--gate", str(home / "gate.toml"), "--out", str(home / model), "--no-track")
    _, found = run(evaluate, capsys, "--challenger", "2", *options)
    folder = Path(found[0]["report"]).parent
    assert argue_again(folder) == read(folder).verdict
    text = (folder / REPORT).read_text()
    (folder / REPORT).write_text(text.replace('"promote": true', '"promote": false'))
    with pytest.raises(ReportError, match="From its evidence follows: Better"):
        argue_again(folder)
    (folder / REPORT).write_text(text.replace('"margin": 0.0', '"margin": 0.5'))
    with pytest.raises(ReportError, match=r"not above the margin 0\.5"):
        argue_again(folder)
    (folder / REPORT).write_text(text)
    blob = bytearray((folder / EVIDENCE).read_bytes())
    blob[len(blob) // 2] ^= 1
    (folder / EVIDENCE).write_bytes(blob)
    with pytest.raises(ReportError, match="is not what the report was made of"):
        argue_again(folder)


def test_the_page_needs_nothing_else(home: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--model", model, "--gate", str(home / "gate.toml"), "--out", str(home / model), "--no-track")
    _, found = run(evaluate, capsys, "--challenger", "2", *options)
    page = Path(found[0]["page"]).read_text()
    assert not re.search(r"https?://|src=|@import|url\(|<script|<link", page)
    assert page.count("<svg") == 4
    assert "Better: after 1,250 decisions the challenger earns +0." in page
    assert "NaN" not in page
    assert "page = page3" in page


def test_what_cannot_be_compared_is_refused(home: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert promote.main(["1", "--model", model]) == 2
    assert "challenger and champion are the same policy" in capsys.readouterr().err
    assert promote.main(["2", "--model", model, "--champion", "3"]) == 2
    assert "version 1 is the champion, which 3 is not" in capsys.readouterr().err
    for wrong in (["--challenger", "2", "--since", "2026-01-01T00:00:00Z"], ["--again", "2", "--out", "x"]):
        with pytest.raises(SystemExit):
            evaluate.main([*wrong, "--model", model])
        assert " are of " in capsys.readouterr().err
    assert promote.main(["9", "--model", model]) == 2
    assert promote.main([str(home / "policies" / "learner"), "--model", model]) == 2
    assert "only versions of the registry can be promoted" in capsys.readouterr().err
    assert promote.main(["2", "--model", model, "--force", " "]) == 2
    (home / "wrong.toml").write_text("margins = 1")
    assert promote.main(["2", "--model", model, "--gate", str(home / "wrong.toml")]) == 2
    assert "wrong.toml: margins: Extra inputs are not permitted" in capsys.readouterr().err
    assert promote.main(["2", "--model", "none"]) == 2
    assert "none has no champion" in capsys.readouterr().err


def test_a_champion_that_changed_meanwhile_is_not_replaced(
    home: Path, model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*arguments: Any, **options: Any) -> Any:
        tried = try_challengers(*arguments, **options)
        settings, versions = Settings(home=home), [resolve(Settings(home=home), number, model) for number in "13"]
        move(settings, versions[1], versions[0], "run")
        return tried

    monkeypatch.setattr(promote, "try_challengers", slow)
    assert promote.main(["2", "--model", model, "--gate", str(home / "gate.toml"), "--out", str(home / model)]) == 2
    assert "champion is version 3 by now, the challenger was compared with version 1" in capsys.readouterr().err
    assert champion(home, model) == 3


def test_a_folder_or_a_file_that_is_none_is_named(home: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["--challenger", str(home / "nowhere")], f"no folder {home / 'nowhere'}"),
        (["--challenger", "2", "--gate", str(home / "nothing.toml")], f"rl.evaluate: {home / 'nothing.toml'}: "),
        (["--challenger", "2", "--gate", str(home / "store.db")], f"rl.evaluate: {home / 'store.db'}: "),
    ):
        assert evaluate.main([*arguments, "--champion", "1", "--model", model]) == 2
        assert said in capsys.readouterr().err
