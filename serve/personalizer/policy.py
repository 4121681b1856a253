"""The learning policy: from Vowpal Wabbit's words and an exploration percentage to a policy of ours, and back."""

from data.schema import RewardSpec
from rl.artefact import Artefact
from rl.catalogue_encoder import CatalogueEncoder
from rl.policies import RandomConfig, build
from serve.personalizer.configuration import LOOP, REWARD, Configuration, PolicySettings
from serve.personalizer.errors import Refusal
import numpy as np


def untrained(now: Configuration) -> Artefact:
    config = RandomConfig()
    return Artefact(
        LOOP, config, build(config, 0, 1, np.zeros(1)), CatalogueEncoder(()), RewardSpec(weights={REWARD: 1.0}), {}
    )


def exploration_of(given: PolicySettings) -> float | None:
    if "--cb_explore_adf" not in given.arguments:
        raise Refusal("InvalidPolicyConfiguration")
    return None


def shown_policy(now: Configuration) -> PolicySettings:
    return now.policy or PolicySettings(name="default", arguments="--cb_explore_adf")
