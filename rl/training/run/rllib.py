"""Trains a policy in a simulator with RLlib: sample, learn, evaluate, report, save what a killed run goes on from."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    EPISODE_RETURN_MEAN,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
)
from threadpoolctl import threadpool_limits

from data.errors import RecommenderError
from data.settings import Settings
from rl.algorithms.learners import learner_module
from rl.artefacts.artefact import Artefact, save
from rl.artefacts.description import TrainedIn
from rl.evaluation.returns import play
from rl.policies.greedy import Greedy
from rl.simulators.batched import BatchedEnv
from rl.training.run.curve import Point, draw_curve
from rl.training.run.environments import ceilings, describe_observations, environment
from rl.training.run.errors import TrainingError
from rl.training.run.experiment import SimulatorExperiment
from rl.training.run.progress import Display
from rl.training.run.runs import Progress, RunFolder, read_progress
from rl.training.run.session import ray_session
from rl.training.run.tracking import Tracker

_LEARNED = ("loss", "q_mean")  # what is logged of a learner's results, where it has them


def run(experiment: SimulatorExperiment, settings: Settings) -> dict[str, Any]:
    """Train, and show how far it is; see `rl.training.kinds.registry.Kind.run`."""
    with Display(experiment.name, experiment.env_steps) as display:
        return train(experiment, settings, display)


def train(
    experiment: SimulatorExperiment,
    settings: Settings,
    display: Display,
    report: Callable[[Point], None] = lambda point: None,
) -> dict[str, Any]:
    """Train, or go on with a training that was killed, and save the artefact.

    Args:
        experiment: what to train.
        settings: where to keep the run and the artefact.
        display: shows how far it is.
        report: is called with each point of the learning curve.

    Returns:
        The report: the evaluated returns by environment steps, the simulator's ceilings, where everything lies.

    Raises:
        TrainingError: there is no such simulator, or an unfinished run of the same name has another configuration.
    """
    env = environment(experiment.environment, experiment.evaluation.envs)
    folder, resolved = RunFolder(settings.home / "runs" / experiment.name), experiment.resolved()
    torch.set_num_threads(experiment.threads)
    with ExitStack() as stack:
        stack.enter_context(folder.lock())
        stack.enter_context(threadpool_limits(experiment.threads, "blas"))
        checkpoint = folder.begin(resolved, fresh=experiment.fresh)
        display.say("starting Ray")
        stack.enter_context(ray_session(1 + experiment.runners * experiment.cpus_per_runner))
        trainer = Trainer(experiment, env, folder, display, report)
        stack.callback(trainer.stop)
        if checkpoint:
            trainer.restore(checkpoint)
        resumed_at = trainer.progress.env_steps
        tracker = stack.enter_context(
            Tracker(settings, experiment.name, resolved, run=folder.id, active=experiment.track)
        )
        trainer.train(tracker)
        out = experiment.folder(settings)
        artefact = save(trainer.artefact().with_graph(), out)
        draw_curve(folder.path / "curve.png", experiment.name, trainer.progress.curve, ceilings(env))
        tracker.files(folder.path / "curve.png")
        tracker.files(out, "policy")
        folder.finish(resolved)
        display.say(f"the policy lies in {out}, the learning curve in {folder.path / 'curve.png'}")
    return (
        {"name": artefact.name, "digest": artefact.digest, **artefact.trained_on, "resumed_at": resumed_at}
        | trainer.report()
        | {"mlflow_run": tracker.run_id, "mlflow_failures": tracker.failures}
    )


class Trainer:
    """One algorithm in training.

    Args:
        experiment: what to train.
        env: the simulator to evaluate in.
        folder: where checkpoints go.
        display: shows how far it is.
        report: is called with each point of the learning curve.
    """

    def __init__(
        self,
        experiment: SimulatorExperiment,
        env: BatchedEnv,
        folder: RunFolder,
        display: Display,
        report: Callable[[Point], None],
    ) -> None:
        self._experiment, self._env, self._folder = experiment, env, folder
        self._display, self._report = display, report
        self._config = experiment.algorithm()
        try:
            self._algorithm = self._config.build_algo()
        except (RecommenderError, ValueError) as error:
            raise TrainingError(str(error)) from error
        self.progress = Progress()

    @property
    def module(self) -> Any:
        """The learner's RLModule."""
        return learner_module(self._algorithm)

    def restore(self, checkpoint: Path) -> None:
        """Go on from a checkpoint."""
        self._algorithm.restore_from_path(str(checkpoint.absolute()))
        self.progress = read_progress(checkpoint)
        self._display.say(f"going on from {self.progress.env_steps:,} env steps")

    def train(self, tracker: Tracker) -> None:
        """Train until all environment steps are taken; an interrupt saves where it is before it is passed on."""
        for point in self.progress.curve:  # what the tracker had not written yet when the run was killed
            _log(tracker, point)
        saved = monotonic()
        try:
            while self.progress.env_steps < self._experiment.env_steps:
                point = self._iterate()
                _log(tracker, point)
                self._display.update(self.progress.env_steps, point)
                self._report(point)
                if monotonic() - saved >= self._experiment.checkpoint_every_s:
                    self._folder.save(self._algorithm, self.progress)
                    saved = monotonic()
        except KeyboardInterrupt:
            self._folder.save(self._algorithm, self.progress)
            self._display.say(
                f"interrupted at {self.progress.env_steps:,} env steps; the same command goes on from there"
            )
            raise

    def _iterate(self) -> Point:
        """Train for one iteration of RLlib, and evaluate if it is time."""
        before, start = self.progress.env_steps, monotonic()
        result = self._algorithm.train()
        seconds = monotonic() - start
        steps = int(result[ENV_RUNNER_RESULTS][NUM_ENV_STEPS_SAMPLED_LIFETIME])
        learned = result.get(LEARNER_RESULTS, {}).get(DEFAULT_MODULE_ID, {})
        point: Point = {"env_steps": steps, "env_steps_per_s": (steps - before) / seconds}
        if (acted := result[ENV_RUNNER_RESULTS].get(EPISODE_RETURN_MEAN)) is not None and acted == acted:
            point["return"] = float(acted)
        point |= {name: float(learned[name]) for name in _LEARNED if name in learned}
        point |= self._experiment.schedules(self._config, steps)
        every = self._experiment.evaluation.every
        if steps // every > before // every or steps >= self._experiment.env_steps:
            point |= self._evaluate()
        self.progress.env_steps = steps
        self.progress.seconds += monotonic() - start
        self.progress.curve.append(point)
        return point

    def _evaluate(self) -> Point:
        """Play the same episodes every time, so that two evaluations differ by the policy."""
        seed = int(np.random.SeedSequence([self._experiment.seed, 2]).generate_state(1)[0])
        policy = Greedy(self._experiment.get_policy(self.module))
        returns = play(policy, self._env, self._experiment.evaluation.episodes, seed, np.random.default_rng(seed))
        return {"evaluation_return": returns.mean, "evaluation_standard_error": returns.standard_error}

    def artefact(self) -> Artefact:
        """Return what was learned."""
        experiment = self._experiment
        return Artefact(
            name=experiment.name,
            config=experiment.policy_config(),
            policy=experiment.get_policy(self.module),
            environment=TrainedIn(name=experiment.environment.name, options=experiment.environment.options),
            trained_on={
                "kind": str(experiment.resolved()["kind"]),
                "seed": experiment.seed,
                "env_steps": self.progress.env_steps,
            },
            **describe_observations(self._env),
        )

    def report(self) -> dict[str, Any]:
        """Return the evaluations and what they are to be compared with."""
        evaluated = [point for point in self.progress.curve if "evaluation_return" in point]
        return {
            "evaluation_return": evaluated[-1]["evaluation_return"],
            "standard_error": evaluated[-1]["evaluation_standard_error"],
            "ceilings": ceilings(self._env),
            "curve": [[point["env_steps"], point["evaluation_return"]] for point in evaluated],
            "seconds": round(self.progress.seconds, 3),
        }

    def stop(self) -> None:
        """Stop the runners, and remove the folder that RLlib makes for logs that it does not write."""
        self._algorithm.stop()
        try:
            os.rmdir(self._algorithm.logdir)
        except OSError:  # it did write some
            return


def _log(tracker: Tracker, point: Point) -> None:
    tracker.log(int(point["env_steps"]), {name: value for name, value in point.items() if name != "env_steps"})
