"""An examination of the service by itself, for its metrics: the last decisions made again, shadows weighed.

It is what `python -m serve.audit` does with a day, of as many decisions as can be had often; so a propensity that was
logged wrongly is known within the hour, not at the end of the day.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from data.log.store import Store
from serve.abtests.changes import list_running
from serve.abtests.results import describe_results
from serve.abtests.specification import UNSEEN
from serve.audit.run import audit
from serve.config import Examination, ServiceConfig
from serve.metrics.examined import Estimated, Examined

_MANY = 100.0
"""Candidates of a bin of probabilities from which its deviation says something."""

log = logging.getLogger("ray.serve")


def examine(store: Store, config: ServiceConfig, decisions: int) -> Examined:
    """Make the last decisions again, and say what variants in the shadow would have earned. Blocks.

    Raises:
        StoreError, DataError: log or archive cannot be read.
    """
    since = store.decisions(max(store.last_decision() - decisions, 0), 1, without=("candidates", "probabilities"))
    counts, deviation = dict[str, int](), 0.0
    if since:
        found = audit(store, config.settings, since[0][1].time, store.now() + timedelta(seconds=1))
        counts = {
            "repeated": found.repeated,
            "mismatch": len(found.mismatches),
            "unreadable": len(found.unreadable),
            "not_repeatable": found.erased.total() + found.expired,
        }
        rows = found.calibration.rows()
        deviation = max((abs(row["z"]) for row in rows if row["candidates"] >= _MANY), default=0.0)
    return Examined(audited=counts, deviation=deviation, off_policy=tuple(_weigh_shadows(store, config)))


def _weigh_shadows(store: Store, config: ServiceConfig) -> list[Estimated]:
    estimated = []
    for state in list_running(store):
        spec = {"default": config.reward, **config.objectives}.get(state.test.objective)
        if state.test.kind not in UNSEEN or spec is None:
            continue
        found = describe_results(store, state, spec, with_past=False) or {}
        for shadow in found.get("shadows", ()):
            if would := shadow.get("would_earn"):
                estimated.append(
                    Estimated(
                        test=state.test.name,
                        variant=shadow["variant"],
                        decisions=shadow["decisions"],
                        effective_decisions=shadow["effective_decisions"],
                        **would,
                    )
                )
    return estimated


def _examine_here(config: ServiceConfig, decisions: int) -> Examined:
    os.nice(10)
    with closing(Store.open(config.settings.store_url, make=False)) as store:
        return examine(store, config, decisions)


async def keep_examining(
    config: ServiceConfig, when: Examination, node: str | None, found: Callable[[Examined | None], None]
) -> None:
    """Examine again and again, in a task of its own; for ever.

    Args:
        config: of the application.
        when: how often, and how much.
        node: the machine that it must run on; None: any.
        found: is given what was found; None: it has failed.
    """
    here = None if node is None else NodeAffinitySchedulingStrategy(node, soft=False)
    # Its process ends with it: what it has loaded is not needed for an hour.
    remote = ray.remote(max_calls=1, num_cpus=0, max_retries=0)(_examine_here)
    task = remote.options(scheduling_strategy=here)
    while True:
        await asyncio.sleep(when.every_s)
        try:
            found(await task.remote(config, when.decisions))
        except Exception:  # the log does not answer, or what a fold had learned is not there any more
            log.exception("the service could not be examined; it is tried again")
            found(None)
