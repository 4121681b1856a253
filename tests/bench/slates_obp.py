"""Synthetic slates and what `sb-obp` estimates of them, run by a Python that has it: `PYTHON slates_obp.py FILE RUNS`.

For each reward structure and run: ten items, slates of three, softmax logger, a target that prefers what truly pays.
Writes an .npz with the logs, the truth and the estimates.
"""

import sys
from typing import Any

import numpy as np
import obp.dataset.synthetic_slate as synthetic
from obp.dataset import SyntheticSlateBanditDataset, linear_behavior_policy_logit, logistic_reward_function
from obp.ope import (
    SlateCascadeDoublyRobust,
    SlateIndependentIPS,
    SlateRegressionModel,
    SlateRewardInteractionIPS,
    SlateStandardIPS,
)
from sklearn.tree import DecisionTreeRegressor

STRUCTURES = ("independent", "cascade_additive", "standard_additive", "standard_decay")
SLATES, ITEMS, SLOTS, DIMENSIONS = 1_000, 10, 3, 5


def run(structure: str, seed: int) -> dict[str, Any]:
    """Return a log as arrays, the target's value on its contexts, and the estimates."""
    data = SyntheticSlateBanditDataset(
        n_unique_action=ITEMS,
        len_list=SLOTS,
        dim_context=DIMENSIONS,
        reward_structure=structure,
        base_reward_function=logistic_reward_function,
        behavior_policy_function=linear_behavior_policy_logit,
        random_state=seed,
    )
    log = data.obtain_batch_bandit_feedback(n_rounds=SLATES)
    pays = logistic_reward_function(log["context"], data.action_context, random_state=seed)
    wanted = np.log(pays / (1 - pays))
    of_target = dict(
        zip(
            (
                "evaluation_policy_pscore",
                "evaluation_policy_pscore_item_position",
                "evaluation_policy_pscore_cascade",
            ),
            data.obtain_pscore_given_evaluation_policy_logit(
                action=log["action"], evaluation_policy_logit_=wanted, return_pscore_item_position=True
            ),
            strict=True,
        )
    )
    distributions = data.calc_evaluation_policy_action_dist(log["action"], wanted)
    model = SlateRegressionModel(
        base_model=DecisionTreeRegressor(max_depth=3, random_state=seed),
        len_list=SLOTS,
        n_unique_action=ITEMS,
        fitting_method="iw",
    )
    fitted = model.fit_predict(
        context=log["context"],
        action=log["action"],
        reward=log["reward"],
        pscore_cascade=log["pscore_cascade"],
        evaluation_policy_pscore_cascade=of_target["evaluation_policy_pscore_cascade"],
        evaluation_policy_action_dist=distributions,
    )
    given = {**log, **of_target, "q_hat": fitted, "evaluation_policy_action_dist": distributions}
    estimators = {
        "sips": SlateStandardIPS(len_list=SLOTS),
        "iips": SlateIndependentIPS(len_list=SLOTS),
        "rips": SlateRewardInteractionIPS(len_list=SLOTS),
        "cascade_dr": SlateCascadeDoublyRobust(len_list=SLOTS, n_unique_action=ITEMS),
    }
    slots = (SLATES, SLOTS)
    return {
        "contexts": log["context"],
        "items": log["action"].reshape(slots),
        "rewards": log["reward"].reshape(slots).astype(float),
        "cascade": (of_target["evaluation_policy_pscore_cascade"] / log["pscore_cascade"]).reshape(slots),
        "marginal": (of_target["evaluation_policy_pscore_item_position"] / log["pscore_item_position"]).reshape(slots),
        "target": distributions.reshape(*slots, ITEMS),
        "truth": data.calc_ground_truth_policy_value(log["context"], wanted),
        **{name: estimator.estimate_policy_value(**given) for name, estimator in estimators.items()},
    }


def main() -> None:
    """Write all runs."""
    synthetic.tqdm = lambda items, **_: items
    found: dict[str, Any] = {}
    for structure in STRUCTURES:
        for seed in range(1_000, 1_000 + int(sys.argv[2])):
            found |= {f"{structure}/{seed}/{name}": values for name, values in run(structure, seed).items()}
        print(structure, file=sys.stderr, flush=True)
    np.savez(sys.argv[1], **found)


if __name__ == "__main__":
    main()
