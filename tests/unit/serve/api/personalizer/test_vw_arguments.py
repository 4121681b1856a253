"""Arguments of VW as configurations."""

import pytest
import vowpalwabbit

from rl.policies import CrossedConfig
from rl.policy.explorers import (
    EpsilonGreedy,
    Softmax,
    SquareCB,
)
from serve.api.personalizer.configuration.policy import DEFAULT_POLICY
from serve.api.personalizer.configuration.vw_arguments import (
    NO_EFFECT,
    ArgumentsError,
    to_config,
)


def test_the_services_default_policy() -> None:
    default = "--cb_explore_adf --epsilon 0.2 --power_t 0 -l 0.001 --cb_type mtr -q ::"
    assert to_config(default) == CrossedConfig(explorer=EpsilonGreedy(epsilon=0.0), epsilon=0.2)


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        ("", {"explorer": EpsilonGreedy(epsilon=0.0), "epsilon": 0.05, "interactions": ()}),
        ("--epsilon=0.1 -qab", {"explorer": EpsilonGreedy(epsilon=0.0), "epsilon": 0.1, "interactions": ("ab",)}),
        ("--squarecb --gamma_scale 100 -q ::", {"explorer": SquareCB(gamma=1000.0), "epsilon": 0.0}),
        ("--squarecb -q ::", {"explorer": SquareCB(gamma=100.0), "epsilon": 0.0}),
        ("--softmax --lambda 20 -q ::", {"explorer": Softmax(temperature=0.05), "epsilon": 0.0}),
        ("--bag 2 -q ::", {"samples": 32, "epsilon": 0.0}),
        ("--cover 3 --nounif -q ::", {"samples": 48, "epsilon": 0.0}),
        ("--regcb --epsilon 0.01 -q ::", {"epsilon": 0.01}),
        ("--bag 4 -q ab --cubic uwi --interactions abcd", {"epsilon": 0.0, "interactions": ("ab", "uwi", "abcd")}),
        (
            "--bag 4 -q :: --ignore_linear u --ignore_linear w --noconstant",
            {"epsilon": 0.0, "ignore_linear": "uw", "constant": False},
        ),
        ("--bag 4 -q :: --ignore A --ignore BA", {"epsilon": 0.0, "ignore": "AB"}),
        ("--bag 4 -q :: --keep A --ignore=B", {"epsilon": 0.0, "ignore": "B", "keep": "A"}),
        ("--bag 4 -q :: --marginal i --decay 0.1 --csoaa_ldf mc --constant 0.5 --compete", {"epsilon": 0.0}),
        ("--bag 4 -q :: --cell_sd 0 --noise_sd 0.1", {"epsilon": 0.0, "cell_sd": 0.0, "noise_sd": 0.1}),
        ("--bag 4 -q :: -l 0.5 --l1 1e-7 --adaptive --cb_type dr -b 20", {"epsilon": 0.0}),
    ],
)
def test_what_arguments_mean(arguments: str, settings: dict[str, object]) -> None:
    assert to_config(f"--cb_explore_adf {arguments}") == CrossedConfig.model_validate(settings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--epsilon 0.2", "must contain --cb_explore_adf or --cats"),
        ("--cats 4", "--cats is of continuous actions, which are not supported here: use --cb_explore_adf"),
        ("--slates", "--slates is of one reward for all slots together"),
        ("--cb_explore_adf --rnd 3", "--rnd is a way to explore that there is not here. There are --epsilon"),
        ("--cb_explore_adf -f model.vw", "--final_regressor is of files"),
        ("--cb_explore_adf --warp 9", "--warp is not an option that is known here. Known are --epsilon"),
        ("--cb_explore_adf nine", "nine is not an option"),
        ("--cb_explore_adf --epsilon", "--epsilon needs a value"),
        ("--cb_explore_adf --epsilon often", "--epsilon needs a number, got 'often'"),
        ("--cb_explore_adf --epsilon 2", "--epsilon Input should be less than or equal to 1, got 2.0"),
        ("--cb_explore_adf -q a", "--quadratic needs 2 letters of namespaces, got 'a'"),
        ("--cb_explore_adf --interactions abcde", "--interactions needs 2 to 4 letters"),
        ("--cb_explore_adf --bag 5 --squarecb", "--bag and --squarecb are different ways to explore"),
        ("--cb_explore_adf --bag 0", "--bag must be above 0"),
        ("--cb_explore_adf --cover inf", "--cover must be above 0"),
        ("--cb_explore_adf --bag 1000", "--bag Input should be less than or equal to 4096"),
        ("--cb_explore_adf --samples 0", "--samples Input should be greater"),
        ("--cb_explore_adf --squarecb --gamma_scale 1e308", "--gamma_scale must be above 0"),
        ("--cb_explore_adf --softmax --lambda 0", "--lambda must be above 0"),
        ("--cb_explore_adf --noise_sd 0", "--noise_sd Input should be greater than 0"),
        ("--cb_explore_adf -q 'a", "cannot be split into words"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(arguments: str, message: str) -> None:
    with pytest.raises(ArgumentsError, match=message):
        to_config(arguments)


def test_vw_takes_the_arguments_of_our_default() -> None:
    assert to_config(DEFAULT_POLICY.arguments) == CrossedConfig(samples=64, epsilon=0.2)
    vw = vowpalwabbit.Workspace(f"{DEFAULT_POLICY.arguments} --quiet")
    assert "cb_explore_adf_bag" in vw.get_enabled_reductions()
    vw.finish()
    assert not NO_EFFECT & {"--epsilon", "--cb_explore_adf", "--squarecb"}
