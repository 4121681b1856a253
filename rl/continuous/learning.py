"""The step `train`: a policy that goes on from what the champion has learned.

    train/policy/              the artefact
    train/learner.safetensors  of a network: what the next run's learner goes on from, its optimiser's sums too

A bandit adds what is new to its sums; a network takes more steps of its learner on a table of what is new. Simulated
rows are learned from like logged ones.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from data.atomic import replace_folder
from data.attribution.join import Outcome
from data.errors import DataError
from data.fields import to_us
from data.log.unreadable import Fault
from data.schema import Decision
from rl.artefacts.artefact import Artefact, save
from rl.continuous.networks import LEARNER, train_network
from rl.continuous.simulation import AS_USER
from rl.continuous.tables import LOGGED, SIMULATED, read_values, weigh_by_age, weigh_by_value
from rl.continuous.work import Work
from rl.experience.events import logged_outcomes
from rl.experience.from_log import WEIGHT
from rl.online.observe import observe, select_learnable
from rl.policies import SlateTransformerConfig, TransformerConfig, build
from rl.policy.interface import Policy

POLICY = "policy"
_AT_ONCE = 5_000  # simulated decisions that are learned from


def train(work: Work) -> dict[str, Any]:
    """Train the challenger, and save it."""
    champion, spec, seen = work.champion_artefact(), work.spec, work.run.steps["ingest"]
    network = isinstance(champion.config, TransformerConfig | SlateTransformerConfig)
    with replace_folder(work.folder("train")) as folder, threadpool_limits(spec.training.threads, "blas"):
        if network or spec.training.policy != "as the champion":
            artefact, found = train_network(work, champion, folder / LEARNER)
        else:
            policy, found = _train_bandit(work, champion)
            artefact = replace(champion, policy=policy, graph=None)
        trained_on: dict[str, str | int | float] = {
            "kind": "continuous",
            "run": work.run.number,
            "seed": spec.seed,
            "from": champion.digest if spec.training.start == "champion" else "nothing",
            "loop": seen["loop"],
            "first": seen["first"],
            "last": seen["last"],
            "specification": work.reward.version,
            "weigh": spec.data.weigh,
            **({"half_life_s": spec.data.half_life_s} if spec.data.weigh == "age" else {}),
            **({"value": spec.data.value} if spec.data.weigh == "value" else {}),
            "simulated_share": round(work.run.steps["transitions"]["simulated_share"], 6),
        }
        if (last_event := champion.trained_on.get("last_event")) is not None:
            trained_on["last_event"] = last_event  # of the purchases that its encoder knows
        artefact = replace(
            artefact,
            name=spec.name,
            reward=work.reward,
            environment=None,
            trained_on=trained_on,
            learned_until=datetime.fromisoformat(seen["split"]),
            digest="",
        )
        saved = save(artefact, folder / POLICY)
    work.tracker.files(work.folder("train"), "train")
    numbers = {name: float(value) for name, value in found.items() if isinstance(value, int | float)}
    work.tracker.log(0, {f"train.{name}": value for name, value in numbers.items()})
    work.say(f"trained {saved.name} {saved.digest} from {champion.name} {champion.digest}")
    return {"digest": saved.digest, "policy": saved.config.kind, **found}


def _train_bandit(work: Work, champion: Artefact) -> tuple[Policy, dict[str, Any]]:
    """Add what is new to what the champion has learned, or to nothing."""
    encoder, policy = champion.encoder, champion.policy
    if work.spec.training.start == "nothing":
        policy = build(champion.config, encoder.n_features, encoder.n_states, encoder.popularity)
    faults, learned, set_aside = list[Fault](), 0, 0
    mean_value = _mean_value(work)
    for outcomes in _outcomes(work, faults):
        weighed = _weigh(outcomes, work, mean_value)
        good, failed = select_learnable(weighed, encoder)
        set_aside += len(failed)
        if good:
            policy.update(observe(good, encoder))
            learned += len(good)
        work.say(f"{learned:,} decisions learned")
    if not learned:
        raise DataError(f"none of the log's decisions can be learned: all {set_aside + len(faults)} are set aside")
    simulated = 0
    for outcomes in _simulated(work):
        good, _ = select_learnable(outcomes, encoder)
        if good:
            policy.update(observe(good, encoder))
            simulated += len(good)
    return policy, {"learned": learned, "learned_simulated": simulated, "set_aside": set_aside + len(faults)}


def _outcomes(work: Work, faults: list[Fault]) -> Iterator[list[Outcome]]:
    """Yield the outcomes that are learned from: of decisions that neither judge nor were learned before."""
    seen = work.run.steps["ingest"]
    since, split = (datetime.fromisoformat(seen[name]) for name in ("since", "split"))
    some = logged_outcomes(work.store, work.reward, split, faults, 20_000, seen["first"] - 1, seen["loop"])
    for outcomes in some:
        yield [outcome for outcome in outcomes if outcome.decision.time >= since and outcome.due]


def _mean_value(work: Work) -> float:
    """Return what a decision is worth in the mean, as the table has it; 0 where rows do not count by it."""
    data = work.spec.data
    if data.weigh != "value":
        return 0.0
    table = pq.read_table(work.folder("transitions") / LOGGED, columns=["context", "reward"])
    values = read_values(table["context"].to_pylist(), table["reward"].to_numpy(), data.value)
    return float(np.maximum(np.nan_to_num(values), 0.0).mean())


def _weigh(outcomes: list[Outcome], work: Work, mean_value: float) -> list[Outcome]:
    """Return outcomes whose decisions count as the settings say."""
    data = work.spec.data
    if data.weigh == "alike" or not outcomes:
        return outcomes
    if data.weigh == "age":
        until = to_us(datetime.fromisoformat(work.run.steps["ingest"]["until"]))
        ages = np.array([(until - to_us(outcome.decision.time)) / 1e6 for outcome in outcomes])
        weights = weigh_by_age(ages, data.half_life_s)
    else:
        rewards = np.array([outcome.reward for outcome in outcomes])
        values = read_values([outcome.decision.context for outcome in outcomes], rewards, data.value)
        weights = weigh_by_value(values, mean_value)
    return [_count_as(outcome, float(weight)) for outcome, weight in zip(outcomes, weights, strict=True)]


def _count_as(outcome: Outcome, weight: float) -> Outcome:
    decision = outcome.decision
    return replace(outcome, decision=decision.model_copy(update={"weight": decision.weight * weight}))


def _simulated(work: Work) -> Iterator[list[Outcome]]:
    """Yield the simulated rows as outcomes, as a bandit learns from them."""
    path = work.folder("transitions") / SIMULATED
    if not path.is_file():
        return
    for batch in pq.ParquetFile(path).iter_batches(_AT_ONCE):
        yield [_to_outcome(row) for row in pa.Table.from_batches([batch]).to_pylist()]


def _to_outcome(row: dict[str, Any]) -> Outcome:
    decision = Decision(
        decision_id=row["decision_id"],
        time=row["time"],
        user_id=row[AS_USER],
        context=json.loads(row["context"] or "{}"),
        candidates=tuple(row["candidates"]),
        slate=tuple(row["slate"]),
        propensities=tuple(row["propensities"]),
        scores=(0.0,) * len(row["slate"]),
        policy="simulated",
        policy_version=row["policy_version"],
    )
    rewards = tuple(row["rewards"])
    outcome = Outcome(decision, rewards, row["reward"], observed=bool(row["reports"]), closed=True)
    return outcome if row[WEIGHT] == 1.0 else _count_as(outcome, row[WEIGHT])
