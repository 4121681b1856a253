"""What a learner goes on from: its networks and its optimiser as plain arrays, to keep, and to begin another with.

A network of more items than the one before begins with that one's vectors for the items that both know: the new ones
must come after them. The optimiser's sums are of parameters one by one, so they go on only where no item is new.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import DEFAULT_MODULE_ID
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rl.algorithms.dqn.learner import QLearner

_ONLINE, _AVERAGE, _OPTIMISER, _UPDATES = "online.", "average.", "optimiser.", "updates"


def save_learner(algorithm: Algorithm, path: Path) -> None:
    """Write what a learner has: its network, the averaged one, its optimiser's sums, its updates."""
    learner = _learner(algorithm)
    module = learner.q_module
    state = {_ONLINE + name: tensor for name, tensor in module.net.state_dict().items()}
    state |= {_AVERAGE + name: tensor for name, tensor in module._target.state_dict().items()}
    state |= {_OPTIMISER + name: torch.as_tensor(value) for name, value in _sums(learner).items()}
    state[_UPDATES] = torch.tensor(learner._updates)
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in state.items()}, path)


def start_from_learner(algorithm: Algorithm, path: Path) -> bool:
    """Go on from what `save_learner` has written; returns whether the optimiser goes on as well."""
    learner, state = _learner(algorithm), load_file(path)
    module = learner.q_module
    whole = [
        _load(network, {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)})
        for network, prefix in ((module.net, _ONLINE), (module._target, _AVERAGE))
    ]
    learner._updates = int(state[_UPDATES])
    sums = {name.removeprefix(_OPTIMISER): t for name, t in state.items() if name.startswith(_OPTIMISER)}
    if not (all(whole) and sums):
        return False
    optimiser: Any = learner.get_optimizer(DEFAULT_MODULE_ID)
    (parameter,) = learner._online
    optimiser.state[parameter] = sums
    return True


def start_from_weights(algorithm: Algorithm, weights: Mapping[str, NDArray[Any]]) -> None:
    """Go on from a policy's weights alone, as an artefact has them: the averaged network's are both networks'."""
    module = _learner(algorithm).q_module
    for network in (module.net, module._target):
        _load(network, {name: torch.from_numpy(np.array(array)) for name, array in weights.items()})


def _learner(algorithm: Algorithm) -> QLearner:
    learner: QLearner = algorithm.learner_group._learner
    return learner


def _sums(learner: QLearner) -> dict[str, Any]:
    """Return the optimiser's sums, where it has one vector of parameters and has made a step."""
    if len(learner._online) != 1:  # `plain`: it has many
        return {}
    optimiser: Any = learner.get_optimizer(DEFAULT_MODULE_ID)
    return dict(optimiser.state.get(learner._online[0], {}))


def _load(network: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Load a state; of tables that have more rows here, the first rows. Returns whether all was as long as here."""
    whole = True
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            found = state[name].to(tensor.dtype)
            if found.shape[1:] != tensor.shape[1:] or len(found.reshape(-1)) > tensor.numel():
                raise ValueError(f"{name} is {list(found.shape)}, this network's is {list(tensor.shape)}")
            whole &= found.shape == tensor.shape
            if found.shape == tensor.shape:
                tensor.copy_(found)
            else:
                tensor[: len(found)].copy_(found)
    return whole
