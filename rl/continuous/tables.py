"""The step `transitions`: what was logged as a table with weights, a simulator fitted to it, and what happened there.

transitions/logged.parquet      the log's transitions, with `weight`; those that judge are the last
transitions/simulated.parquet   what the champion did in the simulator, where it was asked for
transitions/sim_to_real.json    what the simulator says of the decisions that judge, beside what came; with a picture
"""

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.atomic import replace_folder
from data.attribution.columns import microseconds
from data.cluster import quiet_ray_data
from data.fields import to_us
from rl.continuous.simulation import Simulation, simulate
from rl.continuous.specification import Data
from rl.continuous.work import Work
from rl.evaluation.sim_to_real import SimToReal, draw_sim_to_real, measure_sim_to_real
from rl.experience.from_log import WEIGHT
from rl.experience.logged import TransitionQuery, logged_transitions
from rl.policy.arrays import FloatArray
from rl.training.run.session import ray_session

LOGGED, SIMULATED, REPORT, PICTURE = "logged.parquet", "simulated.parquet", "sim_to_real.json", "sim_to_real.png"


def make_tables(work: Work) -> dict[str, Any]:
    """Make the tables."""
    spec, seen = work.spec, work.run.steps["ingest"]
    rng = np.random.default_rng([spec.seed, 1])
    with replace_folder(work.folder("transitions")) as folder:
        work.say("reading the log")
        rows = _read(work, folder / LOGGED)
        table = pq.read_table(folder / LOGGED)
        judges = is_held_out(table, seen["split"])
        train, later = table.filter(pa.array(~judges)), table.filter(pa.array(judges))
        work.say(f"{rows:,} decisions, {later.num_rows:,} of which judge; fitting a simulator")
        simulation = Simulation.fit(train, rng)
        report = _compare(simulation, later)
        simulated = 0
        if wanted := round(train.num_rows * spec.data.simulated / (1.0 - spec.data.simulated)):
            found = simulate(simulation, work.champion_artefact(), train, wanted, rng)
            if found is not None:
                pq.write_table(found, folder / SIMULATED)
                simulated = found.num_rows
                mean = float(pc.mean(found["reward"]).as_py())
                report = report and report.model_copy(update={"simulated_value": mean})
        if report is not None:
            (folder / REPORT).write_text(report.model_dump_json(indent=1))
            draw_sim_to_real(folder / PICTURE, report)
            work.say(
                f"sim to real: a decision earns {report.predicted_value:.4g} by the simulator, "
                f"{report.realised_value:.4g} ({report.realised_low:.4g} to {report.realised_high:.4g}) as it came"
            )
        hashes = {path.name: _sha256(path) for path in sorted(folder.glob("*.parquet"))}
    if report is not None:
        work.tracker.files(work.folder("transitions") / REPORT, "transitions")
        work.tracker.files(work.folder("transitions") / PICTURE, "transitions")
        numbers = {name: value for name, value in report.model_dump().items() if isinstance(value, int | float)}
        work.tracker.log(0, {f"sim_to_real.{name}": float(value) for name, value in numbers.items()})
    return {
        "decisions": rows,
        "held_out": later.num_rows,
        "simulated": simulated,
        "simulated_share": simulated / max(simulated + train.num_rows, 1),
        "weigh": spec.data.weigh,
        "sha256": hashes,
        "sim_to_real": None if report is None else json.loads(report.model_dump_json(exclude={"bins"})),
    }


def is_held_out(table: pa.Table, split: str) -> Any:
    """Return which rows [n] are not learned from: those made after a time."""
    return microseconds(table["time"]) > to_us(datetime.fromisoformat(split))


def weigh(table: pa.Table, data: Data, until: datetime) -> FloatArray:
    """Return how much each row counts, [n]: by its age at a time, by what it is worth, or 1."""
    if data.weigh == "age":
        return weigh_by_age((to_us(until) - microseconds(table["time"])) / 1e6, data.half_life_s)
    if data.weigh == "value":
        return weigh_by_value(read_values(table["context"].to_pylist(), table["reward"].to_numpy(), data.value))
    return np.ones(table.num_rows)


def weigh_by_age(age_s: FloatArray, half_life_s: float) -> FloatArray:
    """Return 2 ** (-age / half-life), [n]."""
    weights: FloatArray = np.exp2(-np.maximum(age_s, 0.0) / half_life_s)
    return weights


def weigh_by_value(values: FloatArray, mean: float | None = None) -> FloatArray:
    """Return 1 + value / mean value, [n]; negative values are 0. So what is worth nothing still counts.

    Args:
        values: [n].
        mean: of all; None: these are all.
    """
    known = np.maximum(np.nan_to_num(values), 0.0)
    if mean is None:
        mean = float(known.mean()) if len(known) else 0.0
    weights: FloatArray = 1.0 + known / mean if mean > 0.0 else np.ones(len(known))
    return weights


def read_values(contexts: list[Any], rewards: FloatArray, value: str) -> FloatArray:
    """Return what rows are worth, [n]: their rewards in size, or a number of their contexts; 0 where that is none."""
    if value == "reward":
        return np.abs(rewards)
    found = (json.loads(text or "{}") if isinstance(text, str | None) else text for text in contexts)
    numbers = [of.get(value) for of in found]
    return np.array([float(n) if isinstance(n, int | float) else 0.0 for n in numbers], dtype=np.float64)


def _read(work: Work, path: Path) -> int:
    """Write the log's transitions that the run sees; returns how many."""
    seen, data = work.run.steps["ingest"], work.spec.data
    since, until = (datetime.fromisoformat(seen[name]) for name in ("since", "until"))
    query = TransitionQuery(
        work.settings.store_url, work.reward, until, seen["loop"], discount=data.discount, reports=True
    )
    schema, rows = query.schema.append(pa.field(WEIGHT, pa.float64())), 0
    with ray_session(1), quiet_ray_data(), pq.ParquetWriter(path, schema) as writer:
        blocks: Iterable[Any] = logged_transitions(query).iter_batches(batch_size=None, batch_format="pyarrow")
        for block in blocks:
            some = block.filter(pc.field("time") >= pa.scalar(since, pa.timestamp("us", tz="UTC"))).cast(query.schema)
            if some.num_rows:
                writer.write_table(some.append_column(schema.field(WEIGHT), pa.array(weigh(some, data, until))))
                rows += some.num_rows
    return rows


def _compare(simulation: Simulation, later: pa.Table) -> SimToReal | None:
    slots, decisions = simulation.slots(later)
    if len(slots) == 0 or int(decisions.max()) < 1:
        return None
    known = simulation.known_of(later)
    return measure_sim_to_real(simulation.model, known, slots, decisions, simulation.decisions)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
