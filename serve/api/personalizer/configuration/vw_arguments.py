"""Learning settings as Vowpal Wabbit's arguments, which are what the Personalizer API calls a policy.

What VW's arguments say of exploration and of interactions is kept; how VW itself learns has no counterpart here:

    --epsilon E               share of uniform draws; without it .05 for epsilon-greedy, 0 for the others, as in VW
    (nothing else)            epsilon-greedy on the expected rewards
    --squarecb --gamma_scale G    SquareCB with gamma 10 G, which is VW's after 100 examples; G is 10 if not given
    --softmax --lambda L      softmax with temperature 1 / L; L is 1 if not given
    --bag N, --cover N, --regcb, --regcbopt    votes of posterior samples, 16 N of them, or 64
    -q, --quadratic, --cubic, --interactions   products of namespaces by their first letters, `:` being any
    --ignore_linear, --ignore, --keep, --noconstant    as in VW; what is left out by --ignore and --keep is so for the
                                               table of whole contexts too, and `i` is the namespace of items' ids
    --noise_sd, --prior_sd, --cell_sd, --samples, --max_features, --max_cells    ours, see `CrossedConfig`

`NO_EFFECT` lists what is accepted and changes nothing: how VW learns (--marginal among it: here every category has an
estimate of its own anyway), reads and reports. What is not named here is refused, in words for who has only HTTP.
"""

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from data.errors import RecommenderError, reason
from rl.policies.crossed.config import CrossedConfig
from rl.policy.explorers import (
    EpsilonGreedy,
    ExplorerConfig,
    Softmax,
    SquareCB,
    Votes,
)

_KINDS = ("--cb_explore_adf", "--ccb_explore_adf")
_VOTES = ("--bag", "--cover", "--regcb", "--regcbopt")
_OURS = ("--noise_sd", "--prior_sd", "--cell_sd", "--samples", "--max_features", "--max_cells")
_LETTERS = ("--ignore_linear", "--ignore", "--keep")
_VALUES = {"--epsilon", "--gamma_scale", "--lambda", "--bag", "--cover", *_LETTERS, *_OURS}
_INTERACTIONS = {"--quadratic": 2, "--cubic": 3, "--interactions": 0}  # how many letters; 0: 2 to 4
_FLAGS = {*_KINDS, "--squarecb", "--softmax", "--regcb", "--regcbopt", "--noconstant"}
_SHORT = {
    **{"-q": "--quadratic", "-l": "--learning_rate", "-b": "--bit_precision", "-P": "--progress", "-d": "--data"},
    **{"-i": "--initial_regressor", "-f": "--final_regressor", "-p": "--predictions", "-r": "--raw_predictions"},
}
_VOTES_EACH = 16  # posterior samples for each of VW's policies: votes of few are coarse
_GAMMA = 10.0  # √100 examples
_LARGEST = 1e6

_NO_EFFECT_VALUES = {
    *("--learning_rate", "--power_t", "--initial_t", "--decay_learning_rate", "--cb_type", "--bit_precision"),
    *("--l1", "--l2", "--hash", "--hash_seed", "--random_seed", "--passes", "--progress", "--loss_function"),
    *("--gamma_exponent", "--mellowness", "--psi", "--cb_min_cost", "--cb_max_cost", "--min_prediction"),
    *("--max_prediction", "--initial_weight", "--id", "--clip_p", "--ftrl_alpha", "--ftrl_beta", "--holdout_period"),
    *("--csoaa_ldf", "--wap_ldf", "--ldf_override", "--constant", "--log_level", "--log_output", "--limit_output"),
    *("--marginal", "--initial_denominator", "--initial_numerator", "--decay", "--sparse_l2"),
}
_NO_EFFECT_FLAGS = {
    *("--adaptive", "--invariant", "--normalized", "--sgd", "--coin", "--ftrl", "--pistol", "--cb_adf"),
    *("--first_only", "--nounif", "--elim", "--rank_all", "--no_predict", "--dsjson", "--json", "--chain_hash"),
    *("--quiet", "--holdout_off", "--save_resume", "--preserve_performance_counters", "--random_weights"),
    *("--leave_duplicate_interactions", "--no_bias_regularization", "--ccb_no_slot_index", "--all_slots_loss"),
    *("--csoaa_rank", "--compete", "--update_before_learn", "--unweighted_marginals", "--sparse_weights", "--adax"),
    *("--predict_only_model", "--per_model_save_load", "--no_stdin", "--strict_parse"),
}
NO_EFFECT = frozenset(_NO_EFFECT_VALUES | _NO_EFFECT_FLAGS)
"""Options of VW that are accepted and have no effect: how it learns, reads and reports."""


_OTHER_TASKS = {
    "--cats": "is of continuous actions, which are not supported here",
    "--cats_pdf": "is of continuous actions, which are not supported here",
    "--cb_explore_pdf": "is of continuous actions, which are not supported here",
    "--slates": "is of one reward for all slots together, which is not supported here: slots have a reward each",
    "--cb_explore": "is of actions without features; with features it is --cb_explore_adf",
}
_OTHER_EXPLORERS = (
    "--first",
    "--rnd",
    "--synthcover",
    "--large_action_space",
    "--automl",
    "--epsilon_decay",
    "--baseline",
)
_FILES = {
    *("--data", "--initial_regressor", "--final_regressor", "--predictions", "--raw_predictions", "--cache"),
    *("--cache_file", "--readable_model", "--invert_hash", "--feature_mask", "--daemon", "--port"),
}
_KNOWN = (
    "--epsilon, --squarecb with --gamma_scale, --softmax with --lambda, --bag, --cover, --regcb and --regcbopt of how "
    "to explore; -q, --quadratic, --cubic, --interactions, --ignore_linear, --ignore, --keep and --noconstant of what "
    "to learn from; how Vowpal Wabbit itself learns, such as -l, --power_t or --cb_type, is accepted and has no effect"
)


class ArgumentsError(RecommenderError):
    """Arguments are no learning settings that can be followed; says which."""


def to_config(arguments: str) -> CrossedConfig:
    """Return the policy that arguments describe.

    Raises:
        ArgumentsError: they are not for contextual bandits, an option is not known or has no right value.
    """
    options = list(_options(arguments))
    given: dict[str, str] = {name: value for name, value in options}
    if not any(kind in given for kind in _KINDS):
        raise ArgumentsError("must contain --cb_explore_adf or --cats")
    explorer, more = _explorer(given)
    epsilon = 0.05 if isinstance(explorer, EpsilonGreedy) else 0.0
    settings: dict[str, Any] = {
        "explorer": explorer,
        "epsilon": _number(given, "--epsilon", epsilon),
        "interactions": tuple(dict.fromkeys(value for name, value in options if name in _INTERACTIONS)),
        **{letters.removeprefix("--"): _join(options, letters) for letters in _LETTERS},
        "constant": "--noconstant" not in given,
        **more,
        **{name.removeprefix("--"): given[name] for name in _OURS if name in given},
    }
    try:
        return CrossedConfig.model_validate(settings)
    except ValidationError as error:
        said = {"samples": next((name for name in _VOTES if name in given), "--samples")}
        faults = [
            f"{said.get(str(name := fault['loc'][0]), f'--{name}')} {reason(fault)}, got {fault['input']!r}"
            for fault in error.errors()
        ]
        raise ArgumentsError("; ".join(faults)) from error


def _join(options: Sequence[tuple[str, str]], name: str) -> str:
    return "".join(dict.fromkeys("".join(value for option, value in options if option == name)))


def _options(arguments: str) -> Iterator[tuple[str, str]]:
    """Yield options, by their long names, with their values; "" where they have none."""
    try:
        words = shlex.split(arguments)
    except ValueError as error:
        raise ArgumentsError(f"the arguments cannot be split into words: {error}") from error
    while words:
        word = words.pop(0)
        short = word[:2]
        if short in _SHORT and len(word) > 2:
            word, words = short, [word[2:].removeprefix("="), *words]
        name, _, value = word.partition("=")
        name = _SHORT.get(name, name)
        if name in _FLAGS | _NO_EFFECT_FLAGS:
            yield name, ""
        elif name in _VALUES | _NO_EFFECT_VALUES | set(_INTERACTIONS):
            if not value and (not words or words[0].startswith("--")):
                raise ArgumentsError(f"{name} needs a value")
            yield name, _check(name, value or words.pop(0))
        else:
            raise ArgumentsError(_refusal(name))


def _refusal(name: str) -> str:
    if name in _OTHER_TASKS:
        return f"{name} {_OTHER_TASKS[name]}: use --cb_explore_adf"
    if name in _FILES:
        return f"{name} is of files and processes of Vowpal Wabbit, and a learning policy has none: leave it out"
    if name in _OTHER_EXPLORERS:
        return f"{name} is a way to explore that there is not here. There are {_KNOWN}"
    return f"{name:.60} is not an option that is known here. Known are {_KNOWN}"


def _check(name: str, value: str) -> str:
    letters = _INTERACTIONS.get(name, 0)
    if letters and len(value) != letters:
        raise ArgumentsError(f"{name} needs {letters} letters of namespaces, got {value!r}")
    if name == "--interactions" and not 2 <= len(value) <= 4:
        raise ArgumentsError(f"{name} needs 2 to 4 letters of namespaces, got {value!r}")
    return value


def _explorer(given: dict[str, str]) -> tuple[ExplorerConfig, dict[str, Any]]:
    votes = [name for name in _VOTES if name in given]
    chosen = votes + [name for name in ("--squarecb", "--softmax") if name in given]
    if len(chosen) > 1 and set(chosen) != {"--regcb", "--regcbopt"}:
        raise ArgumentsError(f"{' and '.join(chosen)} are different ways to explore: give one")
    if votes:
        policies = _positive(given, votes[0], 4.0) if votes[0] in _VALUES else 4.0
        return Votes(floor=0.0), {"samples": int(policies * _VOTES_EACH)}
    if "--squarecb" in given:
        return SquareCB(gamma=_GAMMA * _positive(given, "--gamma_scale", 10.0)), {}
    if "--softmax" in given:
        return Softmax(temperature=1.0 / _positive(given, "--lambda", 1.0)), {}
    return EpsilonGreedy(epsilon=0.0), {}


def _number(given: dict[str, str], name: str, otherwise: float) -> float:
    try:
        return float(given.get(name, otherwise))
    except ValueError as error:
        raise ArgumentsError(f"{name} needs a number, got {given[name]!r}") from error


def _positive(given: dict[str, str], name: str, otherwise: float) -> float:
    number = _number(given, name, otherwise)
    if not 1 / _LARGEST <= number <= _LARGEST:
        raise ArgumentsError(f"{name} must be above 0, from {1 / _LARGEST:g} to {_LARGEST:g}, got {given[name]!r}")
    return number
