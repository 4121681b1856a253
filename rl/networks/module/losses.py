"""The losses of a network's outputs. Pure functions.

Axis names: B rows, N rows that have a target.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, huber_loss, l1_loss, mse_loss

from rl.networks.description.inputs import NetworkError
from rl.networks.description.nodes import Output

# of d = given - target: d²; d²/2 up to |d| = 1 and |d| - 1/2 beyond; |d|
_DISTANCES: dict[str, Callable[..., Tensor]] = {"mse": mse_loss, "huber": huber_loss, "mae": l1_loss}


def row_losses(
    outputs: Mapping[str, Output], given: Mapping[str, Tensor], targets: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return, for every output, the loss of each row that has a target, [N]; N differs between outputs.

    Args:
        outputs: the description of each output.
        given: what the network's forward gave.
        targets: as `encode_targets` returns them.

    Raises:
        NetworkError: the targets of an output are not there.
    """
    losses = dict[str, Tensor]()
    for name, output in outputs.items():
        has = has_target(name, output, targets)
        x, target = given[name][has], targets[name][has]
        match output.kind:
            case "q":
                taken = x.gather(1, targets[action_name(name)][has][:, None]).squeeze(1)  # [N]
                losses[name] = _DISTANCES[output.loss](taken, target, reduction="none")
            case "binary":
                losses[name] = binary_cross_entropy_with_logits(x, target, reduction="none")
            case "class":
                losses[name] = cross_entropy(x, target, reduction="none")
            case "regression":
                losses[name] = _DISTANCES[output.loss](x, target, reduction="none")
    return losses


def has_target(name: str, output: Output, targets: Mapping[str, Tensor]) -> Tensor:
    """Return which rows have a target for an output, [B] bool.

    It is missing where it is NaN, or -1 for a class, an action, or a yes and no.

    Raises:
        NetworkError: the targets of the output are not there.
    """
    for needed in [name, action_name(name)] if output.kind == "q" else [name]:
        if needed not in targets:
            raise NetworkError(f"targets.{needed} is missing; there are: {', '.join(targets) or 'none'}")
    match output.kind:
        case "q":
            return ~targets[name].isnan() & (targets[action_name(name)] >= 0)
        case "regression":
            return ~targets[name].isnan()
        case _:
            return targets[name] >= 0  # false for NaN too


def action_name(output: str) -> str:
    """Return under which name the actions taken of a Q output are, among records and among targets."""
    return f"{output}.action"


def weighted_sum(outputs: Mapping[str, Output], losses: Mapping[str, Tensor]) -> Tensor:
    """Return Σ weight · mean over rows, []; an output of which no row has a target adds nothing."""
    means = [outputs[name].weight * of_rows.mean() for name, of_rows in losses.items() if len(of_rows) > 0]
    return torch.stack(means).sum() if means else torch.zeros(())
