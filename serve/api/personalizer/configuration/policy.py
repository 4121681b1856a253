"""The learning policy: from Vowpal Wabbit's arguments and an exploration percentage to a policy of ours, and back."""

import logging
import re

from data.reward import RewardSpec
from rl.artefacts.artefact import Artefact
from rl.encoders.json_features import FeaturesEncoder
from rl.policies import CrossedConfig, build
from serve.api.personalizer.configuration.values import (
    LOOP,
    REWARD,
    Configuration,
    PolicySettings,
)
from serve.api.personalizer.configuration.vw_arguments import ArgumentsError, to_config
from serve.api.personalizer.errors import ERRORS

DEFAULT_POLICY = PolicySettings(name="default", arguments="--cb_explore_adf --bag 4 --epsilon 0.2 -q ::")
"""Explores where it is not sure, and with the exploration percentage everywhere; Personalizer's own did the latter."""

log = logging.getLogger("raycommend.personalizer")

_EPSILON = re.compile(r"(?<!\S)--epsilon[=\s]\s*(\S+)")


def make_untrained(now: Configuration) -> Artefact:
    """Return the policy that a configuration asks for, without anything learned.

    If it is one that only another version of this service took, the default one answers: the service starts.
    """
    wanted = now.policy or DEFAULT_POLICY
    try:
        config = to_config(wanted.arguments)
    except ArgumentsError as error:
        log.error("the learning policy %r cannot be followed, so the default one answers: %s", wanted.name, error)
        config = to_config(DEFAULT_POLICY.arguments)
    config = config.model_copy(update={"epsilon": now.service.exploration_percentage})
    encoder = FeaturesEncoder(())
    policy = build(config, encoder.n_features, encoder.n_states, encoder.popularity)
    return Artefact(name=LOOP, config=config, policy=policy, encoder=encoder, reward=RewardSpec(weights={REWARD: 1.0}))


def read_exploration(given: PolicySettings) -> float | None:
    """Return how much a learning policy explores; None if it leaves that to the exploration percentage.

    Raises:
        Refused: it cannot be followed.
    """
    config = _config(given)
    return config.epsilon if _EPSILON.search(given.arguments) else None


def shown_policy(now: Configuration) -> PolicySettings:
    """Return the learning policy as it was put, but where another exploration percentage was set since: with that."""
    policy, explored = now.policy or DEFAULT_POLICY, now.service.exploration_percentage
    given = _EPSILON.findall(policy.arguments)
    if not given or _same(given[-1], explored):
        return policy
    return policy.model_copy(update={"arguments": _EPSILON.sub(f"--epsilon {explored!r}", policy.arguments)})


def _same(written: str, number: float) -> bool:
    try:
        return float(written) == number
    except ValueError:
        return False


def _config(given: PolicySettings) -> CrossedConfig:
    try:
        return to_config(given.arguments)
    except ArgumentsError as error:
        message = f"The learning policy {error}." if str(error).startswith("must ") else f"{error}"
        raise ERRORS.refuse("InvalidPolicyConfiguration", message, "arguments") from error
