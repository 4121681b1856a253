"""The learning policy: from Vowpal Wabbit's words and an exploration percentage to a policy of ours, and back."""

from data.schema import RewardSpec
from rl.artefact import Artefact
from rl.json_features import DescribedEncoder
from rl.policies import DescribedConfig, build
from serve.personalizer.configuration import LOOP, REWARD, Configuration, PolicySettings
from serve.personalizer.errors import Refusal


def untrained(now: Configuration) -> Artefact:
    """Return the policy that a configuration asks for, without anything learned."""
    config, encoder = DescribedConfig(epsilon=now.service.exploration_percentage), DescribedEncoder(())
    policy = build(config, encoder.n_features, encoder.n_states, encoder.popularity)
    return Artefact(LOOP, config, policy, encoder, RewardSpec(weights={REWARD: 1.0}), {})


def exploration_of(given: PolicySettings) -> float | None:
    """X"""
    if "--cb_explore_adf" not in given.arguments:
        raise Refusal("InvalidPolicyConfiguration")
    return None


def shown_policy(now: Configuration) -> PolicySettings:
    """X"""
    return now.policy or PolicySettings(name="default", arguments="--cb_explore_adf")
