"""Faults of trainings, beside a service that serves what the registry calls champion."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from data.settings import Settings
from rl.artefacts.artefact import load_served
from rl.downloads import fetch
from rl.registry import register, resolve_alias
from serve.config import Champion, ServiceConfig
from tests.support.cluster_files import ROOT
from tests.support.faults.die import STEPS
from tests.support.faults.fault import BACK_S, Fault
from tests.support.faults.machine import OF_POLICIES, POLICY, Machine, machine
from tests.support.services import wait_for
from tests.support.shops import save_policies, small_market

TRAINING: Final = "training"
_STEPS: Final = 4_096  # of environments
_SHOP: Final = (
    *("rl/experiments/shop_14k.toml", "--env_steps", str(_STEPS), "--evaluation.every", str(_STEPS // 2)),
    *("--evaluation.episodes", "40", "--dqn.learning_starts", "64", "--dqn.network.width", "16"),
    *("--dqn.train_batch_size_per_learner", "64", "--dqn.rounds_per_iteration", "4", "--checkpoint_every_s", "1"),
)
_TRAINED: Final = ("--name", "trained", "--register_as", "challenger")
_RUNNER: Final = "ray::BatchedEnvRunner"


@contextmanager
def training_machine(home: Path) -> Iterator[Machine]:
    """A service whose one policy is the champion."""
    settings = Settings(home=home, store=None, archive=None, tracking=None)
    save_policies(home, small_market()[1])
    register(settings, home / "policies" / POLICY, "champion")
    served = OF_POLICIES | {"policies": {}, "champion": Champion()}
    with machine(ServiceConfig(home=str(home), **served), settings, {}) as made:
        yield made


def die_in(step: str) -> Callable[[Machine], AbstractContextManager[None]]:
    """Return what starts the training, or goes on with it, and kills it in a step; after the last one it is completed.

    Whatever is there then must be whole: the policies, the registry, what its alias names.
    """

    @contextmanager
    def happen(place: Machine) -> Iterator[None]:
        before = resolve_alias(place.settings)
        status, _, said = _train(place, "tests.support.faults.die", step, *_SHOP, *_TRAINED)
        assert status == -signal.SIGKILL, f"{step}: {status}: {said[-3_000:]}"
        champion = resolve_alias(place.settings)
        assert champion == before, f"{before} became {champion}"
        assert champion is not None
        load_served(fetch(place.settings, champion))
        for folder in (place.settings.home / "policies").iterdir():
            assert folder.suffix == ".new" or load_served(folder)
        if step == [*STEPS][-1]:
            _complete(place)
        yield

    return happen


def _complete(place: Machine) -> None:
    """Give the same command again, promote what it has trained, and wait until the service answers with it."""
    status, report, said = _train(place, "rl.train", *_SHOP, *_TRAINED)
    assert status == 0, said[-3_000:]
    assert report["env_steps"] == _STEPS, report
    assert [steps for steps, _ in report["curve"]] == [_STEPS // 2, _STEPS], report
    status, promoted, said = _train(place, "rl.promote", "challenger", "--force", "the faults' training")
    assert (status, promoted["promoted"]) == (0, True), said[-3_000:]
    champion = resolve_alias(place.settings)
    assert champion is not None
    assert (champion.version, champion.digest) == (report["registered"], report["digest"]), champion
    assert champion.version == 2, "a version for each time that it was killed"

    def serves() -> bool:
        policies = place.running.client.get("/v1/policy").json()["policies"]
        return any(policy["version"].startswith(report["digest"]) for policy in policies)

    wait_for(serves, BACK_S)


@contextmanager
def kill_runner(place: Machine) -> Iterator[None]:
    """Kill one of two runners of a training: it goes on, with another in its place, to the right number of steps."""
    home = place.settings.home
    arguments = [*_SHOP, "--name", "runners", "--runners", "2"]
    with tempfile.TemporaryFile("w+") as said:
        training = subprocess.Popen(
            _command("rl.train", *arguments),
            cwd=ROOT,
            env=_environment(place),
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
        try:
            wait_for(lambda: bool(list((home / "runs/runners").glob("checkpoint-*[0-9]"))), 120)
            before = _runners(training.pid)
            assert len(before) == 2, before
            before[0].kill()
            out, _ = training.communicate(timeout=300)
            said.seek(0)
            assert training.returncode == 0, said.read()[-3_000:]
        finally:
            training.kill()
            training.wait()
    report = json.loads(out.splitlines()[-1])
    # How much is lost is in tests/learning/test_runner_death.py. Rounds of one runner do not end at the number.
    assert _STEPS <= report["env_steps"] < 1.1 * _STEPS, report
    assert report["curve"][-1][0] == report["env_steps"], report
    load_served(home / "policies" / "runners")
    yield


def _runners(pid: int) -> list[psutil.Process]:
    family = psutil.Process(pid).children(recursive=True)
    return [one for one in family if one.is_running() and _RUNNER in " ".join(one.cmdline())]


def _train(place: Machine, module: str, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run a module; returns its status, the report that it has printed, and what it has said."""
    done = subprocess.run(
        _command(module, *arguments),
        check=False,
        cwd=ROOT,
        env=_environment(place),
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}, done.stderr


def _command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def _environment(place: Machine) -> dict[str, str]:
    return os.environ | {"RAYCOMMEND_HOME": str(place.settings.home), "OMP_NUM_THREADS": "1"}


FAULTS: Final = (
    Fault(
        "env_runner_killed",
        TRAINING,
        "SIGKILL of one of two env runners of a training",
        "not at all",
        "its fragment is lost; the training ends with the number of steps that it was to have",
        kill_runner,
    ),
    *(
        Fault(
            f"trainer_killed_{step}",
            TRAINING,
            f"SIGKILL of the trainer in the middle of {step}",
            "the same command is given again",
            "files, registry and champion are whole; the training goes on from its checkpoint",
            die_in(step),
        )
        for step in STEPS
    ),
)
