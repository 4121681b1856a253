"""What is started as a job: only experiments that are there, in lines that hold nothing of a form."""

import asyncio
import re
import subprocess
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from data.settings import Settings
from serve.console.learning.experiments import ROOT, Experiment, Work, list_experiments
from serve.console.learning.jobs import LINES, Jobs
from serve.contracts.errors import Refused


def awaited(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on an event loop."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


@dataclass
class FakeRay:
    """Ray's interface of jobs, as far as it is used, with what it was asked."""

    started: list[dict[str, Any]] = field(default_factory=list)
    others: list[Any] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)

    def submit_job(self, **given: Any) -> str:
        self.started.append(given)
        return str(given["submission_id"])

    def list_jobs(self) -> list[Any]:
        own = [
            SimpleNamespace(
                submission_id=one["submission_id"],
                metadata=one["metadata"],
                status="STOPPED" if one["submission_id"] in self.stopped else "RUNNING",
                start_time=1_700_000_000_000 + at,
                end_time=None,
                message="",
            )
            for at, one in enumerate(self.started)
        ]
        return [*own, *self.others]

    def stop_job(self, job_id: str) -> bool:
        self.stopped.append(job_id)
        return True

    def get_job_logs(self, job_id: str) -> str:
        return "first\nsecond\r12 %\r13 %\n"


@pytest.fixture
def fake_ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    context = SimpleNamespace(runtime_env={}, gcs_address="127.0.0.1:1")
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", lambda address: fake)
    return fake


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def test_experiments_that_ship_and_those_of_the_home_are_listed(settings: Settings, tmp_path: Path) -> None:
    own = tmp_path / "experiments"
    (own / "search").mkdir(parents=True)
    (own / "mine.toml").write_text('# What I try.\nkind = "bandit"\nname = "tried"\n')
    (own / "broken.toml").write_text("kind = ")
    (own / "search" / "wide.toml").write_text('name = "wide"\n')
    found = list_experiments(settings)
    shipped = {f"shipped/{path.stem}" for path in (ROOT / "rl" / "experiments").glob("*.toml")}
    assert shipped <= found.keys()
    assert found["shipped/search/shop_14k"].work == found["own/search/wide"].work == "tune"
    assert (found["own/mine"].name, found["own/mine"].about) == ("tried", "What I try.")
    assert found["own/broken"].problem is not None
    assert "broken.toml" in found["own/broken"].problem


@awaited
async def test_what_a_form_chooses_reaches_a_job_as_values_and_never_as_commands(
    fake_ray: FakeRay, settings: Settings, tmp_path: Path
) -> None:
    evil = tmp_path / "x; touch '$(owned)` \"y.toml"
    jobs = Jobs(settings)
    job_id = await jobs.start(Experiment("own/x", evil, "train", "x", ""), "challenger", "admin")
    [started] = fake_ray.started
    assert started["entrypoint"] == LINES["train"]
    values = started["runtime_env"]["env_vars"]
    assert values["RAYCOMMEND_JOB_EXPERIMENT"] == str(evil)
    assert values["RAYCOMMEND_HOME"] == str(tmp_path)
    assert values["RAYCOMMEND_JOB_ALIAS"] == "challenger"
    assert values["RAYCOMMEND_JOB_RAY"] == "127.0.0.1:1"
    assert re.fullmatch(r"raycommend-train-[0-9a-f]{12}", job_id)
    for line in LINES.values():
        assert re.findall(r'"\$\w+"', line) == re.findall(r'"[^"]*"', line)  # each value is quoted, and nothing else is


@pytest.mark.parametrize("work", ["train", "tune"])
def test_a_job_works_on_the_ray_of_the_console_whichever_ray_chooses(work: Work, tmp_path: Path) -> None:
    says = tmp_path / "python"
    says.write_text('#!/bin/sh\necho "$RAY_ADDRESS $*"\n')
    says.chmod(0o700)
    values = {"FOLDER": str(tmp_path), "PYTHON": str(says), "EXPERIMENT": "a b.toml", "ALIAS": "", "RAY": "127.0.0.1:1"}
    given = {f"RAYCOMMEND_JOB_{name}": value for name, value in values.items()} | {"RAY_ADDRESS": "127.0.0.1:2"}
    said = subprocess.run(["/bin/sh", "-c", LINES[work]], env=given, capture_output=True, text=True, check=True)
    assert said.stdout == f"127.0.0.1:1 -m rl.{work} a b.toml\n"


@awaited
async def test_a_job_is_listed_and_its_experiment_is_not_started_twice(fake_ray: FakeRay, settings: Settings) -> None:
    jobs, coffee = Jobs(settings), list_experiments(settings)["shipped/coffee"]
    job_id = await jobs.start(coffee, None, "admin")
    [job] = await Jobs(settings).list_last()  # another console, as after a restart
    assert (job.job_id, job.experiment, job.work, job.by, job.running) == (
        job_id,
        "shipped/coffee",
        "train",
        "admin",
        True,
    )
    with pytest.raises(Refused, match="runs already"):
        await jobs.start(coffee, None, "admin")
    await jobs.stop(job_id)
    assert not (await jobs.list_last())[0].running
    await jobs.start(coffee, None, "admin")
    assert await jobs.last_lines(job_id) == ["first", "second", "12 %", "13 %"]


@awaited
async def test_one_that_runs_is_found_however_many_came_after_it(fake_ray: FakeRay, settings: Settings) -> None:
    jobs, experiments = Jobs(settings), list_experiments(settings)
    job_id = await jobs.start(experiments["shipped/coffee"], None, "admin")
    for _ in range(40):
        fake_ray.stopped.append(await jobs.start(experiments["shipped/shop"], None, "admin"))
    listed = await jobs.list_last()
    assert (len(listed), listed[0].job_id) == (30, job_id)
    with pytest.raises(Refused, match="runs already"):
        await jobs.start(experiments["shipped/coffee"], None, "admin")
    await jobs.stop(job_id)
    assert job_id in fake_ray.stopped


@awaited
async def test_of_two_who_start_the_same_at_once_one_is_refused(fake_ray: FakeRay, settings: Settings) -> None:
    jobs, coffee = Jobs(settings), list_experiments(settings)["shipped/coffee"]
    started = await asyncio.gather(*(jobs.start(coffee, None, "admin") for _ in range(2)), return_exceptions=True)
    assert [type(one) for one in started] == [str, Refused]
    assert len(fake_ray.started) == 1


@awaited
async def test_jobs_of_others_are_neither_listed_nor_stopped(fake_ray: FakeRay, settings: Settings) -> None:
    other = SimpleNamespace(
        submission_id="raysubmit_1", metadata={}, status="RUNNING", start_time=1, end_time=None, message=""
    )
    fake_ray.others = [other, SimpleNamespace(submission_id=None, metadata=None)]
    jobs = Jobs(settings)
    assert await jobs.list_last() == []
    for touch in (jobs.stop, jobs.last_lines):
        with pytest.raises(Refused, match="no job"):
            await touch("raysubmit_1")
    assert fake_ray.stopped == []


@awaited
async def test_in_a_package_that_was_sent_a_job_runs_in_the_same(
    fake_ray: FakeRay, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = SimpleNamespace(runtime_env={"working_dir": "gcs://_ray_pkg_1.zip"}, gcs_address="127.0.0.1:1")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    await Jobs(settings).start(list_experiments(settings)["shipped/search/shop_14k"], None, "admin")
    environment = fake_ray.started[0]["runtime_env"]
    assert environment["working_dir"] == "gcs://_ray_pkg_1.zip"
    assert environment["env_vars"]["RAYCOMMEND_JOB_FOLDER"] == "."
    assert environment["env_vars"]["RAYCOMMEND_JOB_EXPERIMENT"] == "rl/experiments/search/shop_14k.toml"


@awaited
async def test_without_ray_it_is_said_that_there_are_no_jobs(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(Refused, match="Ray takes no jobs here"):
        await Jobs(settings).list_last()
