"""Networks with several inputs and outputs, from a description to a trained, stored, drawn and exported module.

Needs matplotlib, pandas, pyarrow, safetensors, scipy and torch; `export_onnx` is in `rl.networks.export`, which needs
onnx and onnxruntime as well.
"""

from rl.networks.description.description import NetworkDescription, parse, read_description
from rl.networks.description.inputs import NetworkError
from rl.networks.drawing.picture import draw_network
from rl.networks.encoding.encode import Records, encode_inputs, encode_targets
from rl.networks.measuring import Losses, Score, evaluate
from rl.networks.module.network import Network, build
from rl.networks.storage import load_network, save_network
from rl.networks.training import Epoch, Training, fit

__all__ = [
    "Epoch",
    "Losses",
    "Network",
    "NetworkDescription",
    "NetworkError",
    "Records",
    "Score",
    "Training",
    "build",
    "draw_network",
    "encode_inputs",
    "encode_targets",
    "evaluate",
    "fit",
    "load_network",
    "parse",
    "read_description",
    "save_network",
]
