"""From 6,000 decisions that the service has logged, clicks of 5.4 a session, a network learns to earn 9 and more."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from data.log.store import Store
from data.settings import Settings
from rl.artefacts.artefact import load
from rl.evaluation.returns import play
from rl.policies.greedy import Greedy
from rl.simulators.shop.shop import Shop
from rl.training.kinds.offline.experiment import OfflineExperiment, Sessions
from rl.training.kinds.offline.run import run
from tests.support.clocks import Clock
from tests.support.logged_shop import ITEMS, SPEC, write_sessions


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_a_policy_learned_from_the_log_is_better_than_who_made_it(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, store=None, archive=None)
    with closing(Store.open(settings.store_url, clock := Clock())) as store:
        behaviour = write_sessions(store, clock, users=400, seed=0)
    assert 5.0 < behaviour < 6.0
    experiment = OfflineExperiment(
        name="logged", source="log", reward=SPEC, sessions=Sessions(discount=0.5), track=False
    )
    report = run(experiment, settings)
    assert (report["decisions"], report["reports"]["counted"], report["specification"]) == (8_000, 8_000, SPEC.version)
    assert "return" in report or "abstained" in report
    artefact = load(tmp_path / "policies" / "logged")
    assert (artefact.encoder.items, artefact.history, artefact.reward) == (ITEMS, 20, SPEC)
    assert artefact.digest == report["digest"]
    earned = play(Greedy(artefact.policy), Shop(250), 1_000, 1, np.random.default_rng(1))
    assert earned.mean > 8.5 > behaviour
