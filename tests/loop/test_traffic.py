"""`python -m serve.traffic`: a process that drives a service over HTTP, or says why it cannot."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from starlette.responses import JSONResponse, Response

from serve.traffic.__main__ import main
from tests.support.answering import Answering
from tests.support.ports import free_port
from tests.support.servers import listening

pytestmark = pytest.mark.heavy
ROOT = Path(__file__).parents[2]
NONE = f"http://127.0.0.1:{free_port()}"


def traffic(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAYCOMMEND_HOME": str(home)}
    command = [sys.executable, "-m", "serve.traffic", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=home)


def test_users_of_a_shop_drive_a_service(tmp_path: Path) -> None:
    service = Answering()
    rough = ["--delay", "exponential:.05", "--duplicates", ".3", "--lost", ".2", "--late", ".1", "--late-by", ".2"]
    with listening(service.app) as port:
        done = traffic(
            tmp_path, "--url", f"http://127.0.0.1:{port}", "--rate", "200", "--users", "50", "--visits", "200",
            "--key", "secret", "--shift", "100:.5", "--shuffled", ".5", "--shuffled-within", ".1", *rough,
            "--picture", "rewards.png",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["visits"] == told["requests"]["/v1/recommend"] == 200
    reports = told["reports"]
    assert reports["sent"] == reports["made"] - reports["lost"] + reports["twice"]
    assert reports["stored"] + reports["known"] == reports["sent"] == sum(map(len, service.reported))
    assert min(reports["lost"], reports["late"], reports["twice"]) > 0
    assert told["failures"] == told["refusals"] == {}
    assert len(told["reward_over_time"]) == 20
    assert set(told["latency_ms"]) == {"/v1/recommend", "/v1/feedback"}
    assert all(headers["authorization"] == "Bearer secret" for headers in service.headers)
    assert len(service.clients) < 60, "connections are kept"
    assert (tmp_path / "rewards.png").read_bytes().startswith(b"\x89PNG")
    assert {body["user_id"].partition(".")[0] for body in service.asked} <= {f"user-{n}" for n in range(50)}


def test_what_is_given_up_is_counted_and_the_exit_status_says_so(tmp_path: Path) -> None:
    def refuse(path: str, number: int) -> Response | None:
        return JSONResponse({"error": "no"}, 422) if number == 4 else None

    with listening(Answering(refuse=refuse).app) as port:
        done = traffic(tmp_path, "--url", f"http://127.0.0.1:{port}/", "--clients", "1", "--visits", "10")
    assert done.returncode == 1, done.stderr
    assert sum(json.loads(done.stdout.splitlines()[-1])["failures"].values()) == 1
    assert "answered 422" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--url", NONE, "--attempts", "1"], "did not answer"),
        (["--url", NONE, "--simulator", "nobody"], "there is no simulator 'nobody'"),
        (["--url", NONE, "--simulator", "shop", "--options", '{"size": 3}'], "simulator shop"),
        (["--url", NONE, "--simulator", "ratings", "--options", '{"ratings": "none.csv"}'], "none.csv"),
        (["--url", NONE, "--simulator", "ratings", "--options", '{"ratings": "node:movielens"}'], "movielens"),
        (["--url", NONE, "--delay", "soon"], "a delay is fixed:S"),
        (["--url", NONE, "--lost", "2"], "expected a share from 0 to 1"),
        (["--url", NONE, "--rate", "0"], "expected visits a second, above 0"),
        (["--url", NONE, "--options", "[]"], "expected a JSON object"),
        ([], "one of the arguments --url --out is required"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(
    arguments: list[str],
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RAYCOMMEND_HOME", str(tmp_path))
    try:
        status = main(arguments)
    except SystemExit as refused:  # of the options' parser
        status = int(refused.code or 0)
    assert status == 2
    assert why in capsys.readouterr().err


def test_what_uniform_draws_would_have_logged_is_written_the_same_each_time(tmp_path: Path) -> None:
    frame = pd.DataFrame([(u, m, 1.0 + (u * m) % 9 / 2) for u in range(1, 9) for m in range(1, 7)])
    frame.set_axis(["userId", "movieId", "rating"], axis=1).to_csv(tmp_path / "mine.csv", index=False)
    of = ["--simulator", "ratings", "--options", '{"ratings": "mine.csv", "items": 6, "rank": 3}', "--visits", "30"]
    told = [json.loads(traffic(tmp_path, *of, "--out", name).stdout) for name in ("one.dsjson", "two.dsjson")]
    assert told[0] == told[1]
    assert (tmp_path / "one.dsjson").read_bytes() == (tmp_path / "two.dsjson").read_bytes()
    lines = [json.loads(line) for line in (tmp_path / "one.dsjson").read_text().splitlines()]
    assert len(lines) == told[0]["visits"] == 30
    assert {line["_label_probability"] for line in lines} == {1 / 6}
    assert -sum(line["_label_cost"] for line in lines) / 30 == pytest.approx(told[0]["reward"], abs=1e-5)
