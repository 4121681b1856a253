"""Trains a policy from a table of transitions, judges it, and saves it.

A table of a simulator's transitions is judged in the simulator, one of the service's log by sessions of users who were
not learned from.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import LEARNER_RESULTS
from threadpoolctl import threadpool_limits

from data.settings import Settings
from rl.algorithms.dqn.algorithm import DQNConfig
from rl.algorithms.learners import learner_module
from rl.algorithms.offline.algorithm import OfflineQ, OfflineQConfig
from rl.artefacts.artefact import Artefact, save
from rl.artefacts.description import TrainedIn
from rl.encoders.simulated import SimulatedEncoder
from rl.evaluation.returns import Returns, play
from rl.experience.collection import collect_transitions
from rl.experience.transitions import write
from rl.policies import TransformerConfig
from rl.policies.transformer.policy import TransformerPolicy
from rl.policy.explorers import EpsilonGreedy
from rl.policy.interface import Policy
from rl.simulators.batched import BatchedEnv
from rl.training.kinds.offline.experiment import OfflineExperiment
from rl.training.kinds.offline.from_log import build_table
from rl.training.kinds.offline.judge import judge
from rl.training.run.environments import describe_observations, environment
from rl.training.run.progress import Display
from rl.training.run.session import ray_session
from rl.training.run.tracking import Tracker

_LEARNED = ("loss", "td_errors", "q_mean", "surprise", "evenness")


def run(experiment: OfflineExperiment, settings: Settings) -> dict[str, Any]:
    """Train, and show how far it is; see `rl.training.kinds.registry.Kind.run`."""
    with Display(experiment.name, experiment.offline.passes) as display:
        return train(experiment, settings, display)


def train(experiment: OfflineExperiment, settings: Settings, display: Display) -> dict[str, Any]:
    """Make the table if none is given, learn from it alone, and save the artefact.

    Returns:
        The report: the return of the learned policy, that of who made the log, where everything lies.

    Raises:
        TrainingError: there is no such simulator.
        DataError: the table cannot be learned from.
    """
    torch.set_num_threads(experiment.threads)
    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(experiment.threads, "blas"))
        if experiment.source == "log":
            return _train_from_log(experiment, settings, display, stack)
        return _train_in_simulator(experiment, settings, display, stack)


def _train_from_log(
    experiment: OfflineExperiment, settings: Settings, display: Display, stack: ExitStack
) -> dict[str, Any]:
    """Learn from the sessions of most users, and judge by those of the others."""
    out, discount = experiment.folder(settings), experiment.sessions.discount
    display.say("starting Ray")
    stack.enter_context(ray_session(1))
    display.say("reading the log")
    logged = stack.enter_context(build_table(experiment, settings))
    display.say(f"{logged.rows:,} transitions of {logged.survey.due:,} decisions")
    tracker = stack.enter_context(Tracker(settings, experiment.name, experiment.resolved(), active=experiment.track))
    tracker.log(0, {f"reports_{case}": count for case, count in logged.survey.cases.items()})
    algorithm = _learn(experiment, logged.learned, display, tracker)
    config = TransformerConfig(network=experiment.offline.network)
    served = TransformerPolicy(algorithm.policy.network, config.explorer)
    judged = judge(served, logged.held_out, discount, np.random.default_rng(experiment.seed))
    numbers = {name: value for name, value in judged.items() if isinstance(value, float)}
    tracker.log(algorithm.rows, numbers)
    trained_on: dict[str, str | int | float] = {
        "kind": experiment.kind,
        "source": experiment.source,
        "seed": experiment.seed,
        "loop": experiment.sessions.loop,
        "specification": experiment.reward.version,
        "until": logged.until.isoformat(),
        "decisions": logged.survey.due,
        "rows": algorithm.rows,
    }
    artefact = save(
        Artefact(
            name=experiment.name,
            config=config,
            policy=algorithm.policy,
            encoder=logged.encoder,
            history=experiment.sessions.history,
            reward=experiment.reward,
            trained_on=trained_on,
            learned_until=logged.until,
        ).with_graph(),
        out,
    )
    algorithm.stop()
    tracker.files(out, "policy")
    display.say(f"the policy lies in {out}")
    report = {"reports": dict(logged.survey.cases), **judged}
    return {"name": artefact.name, "digest": artefact.digest, **trained_on, **report}


def _train_in_simulator(
    experiment: OfflineExperiment, settings: Settings, display: Display, stack: ExitStack
) -> dict[str, Any]:
    """Learn from a simulator's transitions, which are made if no table is given, and judge by playing it."""
    env = environment(experiment.environment, experiment.envs)
    out = experiment.folder(settings)
    report: dict[str, Any] = {}
    display.say("starting Ray")
    stack.enter_context(ray_session(1))
    path = experiment.table
    if path is None:
        display.say(f"logging {experiment.log.interactions:,} interactions")
        path = str(settings.home / "transitions" / f"{experiment.name}.parquet")
        report = _prefix("behaviour_", _log(experiment, env, path))
    tracker = stack.enter_context(Tracker(settings, experiment.name, experiment.resolved(), active=experiment.track))
    algorithm = _learn(experiment, path, display, tracker)
    returns = _judge(experiment, algorithm.policy, env)
    tracker.log(algorithm.rows, {"evaluation_return": returns.mean})
    trained_on: dict[str, str | int | float] = {
        "kind": experiment.kind,
        "seed": experiment.seed,
        "table": path,
        "rows": algorithm.rows,
    }
    artefact = save(
        Artefact(
            name=experiment.name,
            config=TransformerConfig(network=experiment.offline.network),
            policy=algorithm.policy,
            environment=TrainedIn(name=experiment.environment.name, options=experiment.environment.options),
            trained_on=trained_on,
            **describe_observations(env, algorithm.config.observation_space),
        ).with_graph(),
        out,
    )
    algorithm.stop()
    tracker.files(out, "policy")
    display.say(f"the policy lies in {out}")
    return {"name": artefact.name, "digest": artefact.digest, **trained_on, **report, **_prefix("", returns)}


def _log(experiment: OfflineExperiment, env: BatchedEnv, path: str) -> Returns:
    """Write what an epsilon-greedy policy does, which has learned a little; returns what it earns itself."""
    config = DQNConfig().environment(experiment.environment.name, env_config=experiment.environment.options)
    config.training(network=experiment.offline.network, horizon=experiment.log.env_steps, loss="mse", weight_decay=0.3)
    algorithm = config.debugging(seed=experiment.seed, log_level="ERROR").build_algo()
    while algorithm.env_steps < experiment.log.env_steps:
        algorithm.train()
    network = learner_module(algorithm).averaged_policy().network
    algorithm.stop()
    policy = TransformerPolicy(network, EpsilonGreedy(epsilon=experiment.log.epsilon))
    of_env, of_policy = np.random.SeedSequence([experiment.seed, 3]).spawn(2)
    seed, rng = int(of_env.generate_state(1)[0]), np.random.default_rng(of_policy)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    columns = collect_transitions(policy, env, experiment.log.interactions, seed, rng)
    write(path, columns, n_items=SimulatedEncoder.of(env.single_observation_space).n_items)
    return _judge(experiment, policy, env)


def _learn(experiment: OfflineExperiment, path: str, display: Display, tracker: Tracker) -> OfflineQ:
    """Go through the table as often as asked for."""
    config = OfflineQConfig().offline_data(input_=path).training(hyperparameters=experiment.offline)
    algorithm: OfflineQ = config.debugging(seed=experiment.seed, log_level="ERROR").build_algo()
    for number in range(experiment.offline.passes):
        learned = algorithm.train()[LEARNER_RESULTS][DEFAULT_MODULE_ID]
        tracker.log(algorithm.rows, {name: float(learned[name]) for name in _LEARNED})
        display.say(f"pass {number + 1} of {experiment.offline.passes}: loss {float(learned['loss']):.4f}")
    return algorithm


def _judge(experiment: OfflineExperiment, policy: Policy, env: BatchedEnv) -> Returns:
    """Play the same episodes whoever is judged."""
    seed = int(np.random.SeedSequence([experiment.seed, 2]).generate_state(1)[0])
    return play(policy, env, experiment.episodes, seed, np.random.default_rng(seed))


def _prefix(prefix: str, returns: Returns) -> dict[str, float]:
    return {f"{prefix}return": returns.mean, f"{prefix}standard_error": returns.standard_error}
