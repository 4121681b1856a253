"""`python -m rl.export ARTEFACT --out FOLDER`: a trained policy for other programs.

A Q network becomes `model.onnx`, which takes any number of requests, candidates and history entries, and is checked
against torch before it is written; that of a slate network computes what `rl.policies.slates.choice` makes slates of.
Other policies are arrays and a formula: they are copied, with the formula.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.command import DONE, argument_parser, command
from rl.artefacts.artefact import ARRAYS, DESCRIPTION, GRAPH, load
from rl.policies.linear.linear import Linear
from rl.policies.linear.neural import NeuralLinear
from rl.policies.linear.per_item import PerItem
from rl.policy.interface import Policy

_WITHOUT_GRAPH = {
    Linear: "expected reward = basis(features) @ theta, theta = solve(precision, b): one model over the joint features "
    "of context and item",
    PerItem: "expected reward of item i = basis(features) @ theta_i, theta_i = solve(precision_i, b_i)",
    NeuralLinear: "a linear policy over the last hidden layer of a network",
}


def export(artefact: Path, out: Path, opset: int | None = None) -> dict[str, Any]:
    """Write a policy to a folder: `policy.json`, `arrays.safetensors`, and `model.onnx` where there is a graph.

    Args:
        artefact: folder written by rl.train.
        out: folder to write to.
        opset: version of ONNX's operators; None: that of `rl.onnx_export.OPSET`.

    Returns:
        What was written, and either the outputs of the ONNX model, its opset and its largest difference to torch, or
        why there is none.

    Raises:
        ArtefactError: the artefact cannot be read.
        PolicyError: the same, there is no such opset, or onnxruntime computes something else than torch; nothing was
            written.
    """
    loaded = load(artefact)
    report: dict[str, Any] = {"name": loaded.name, "digest": loaded.digest, "policy": loaded.config.kind}
    blob = None
    if loaded.config.kind in ("transformer", "slate_transformer"):
        from rl.onnx_export import OPSET
        from rl.policies.transformer.export import difference, output_names, to_onnx  # torch takes seconds
        from rl.policies.transformer.policy import TransformerPolicy

        assert isinstance(loaded.policy, TransformerPolicy)
        network, report["opset"] = loaded.policy.network, OPSET if opset is None else opset
        if loaded.graph is not None and report["opset"] == OPSET:
            blob, report["difference"] = loaded.graph, difference(network, loaded.graph)
        else:
            blob, report["difference"] = to_onnx(network, opset=report["opset"])
        report["outputs"] = output_names(network)
    else:
        report["no_onnx"] = explain(loaded.policy)
    out.mkdir(parents=True, exist_ok=True)
    for name in (DESCRIPTION, ARRAYS):
        shutil.copyfile(artefact / name, out / name)
    if blob is not None:
        (out / GRAPH).write_bytes(blob)
    return report | {"files": sorted(str(path) for path in out.iterdir())}


def explain(policy: Policy) -> str:
    """Return why a policy has no graph, and what computes its scores."""
    formula = next((text for kind, text in _WITHOUT_GRAPH.items() if isinstance(policy, kind)), "a table")
    return (
        f"not a network with weights of its own: {formula}. arrays.safetensors has its arrays, and "
        f"{type(policy).__module__} the code; it goes on learning, which a graph would not"
    )


@command("rl.export")
def main(arguments: Sequence[str]) -> int:
    """Run the command: the report as JSON on standard output."""
    parser = argument_parser("rl.export", __doc__)
    parser.add_argument("artefact", type=Path, help="folder written by rl.train")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--opset", type=int, help="of ONNX, 18 to 22 (default: 18, for ONNX Runtime 1.14 and later)")
    options = parser.parse_args(arguments)
    print(json.dumps(export(options.artefact, options.out, options.opset)))
    return DONE


if __name__ == "__main__":
    sys.exit(main())
