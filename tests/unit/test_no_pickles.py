"""Nothing that comes from the registry, a store, a file or the network is read by what can run code: no pickles.

What Ray itself sends between the processes of a cluster is pickled: serve/SECURITY.md says who can send it.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [path for room in ("data", "rl", "serve") for path in sorted((ROOT / room).rglob("*.py"))]

MODULES = {"_pickle", "cloudpickle", "dill", "jsonpickle", "joblib", "marshal", "pickle", "shelve", "skops"}
"""To import one of them, or to reach it through another package (`ray.cloudpickle`), is a finding."""
CALLS = {
    "eval": "runs an expression",
    "exec": "runs code",
    "from_checkpoint": "RLlib's checkpoints are pickles",
    "from_state": "RLlib's states name classes and have pickles",
    "load_checkpoint": "RLlib's checkpoints are pickles",
    "load_model": "MLflow imports the code that a model names, and unpickles",
    "read_pickle": "pandas",
    "restore_from_path": "RLlib's checkpoints are pickles",
    "unsafe_load": "YAML that makes objects",
    "unsafe_load_all": "YAML that makes objects",
    "full_load": "YAML that makes objects",
    "full_load_all": "YAML that makes objects",
}
"""Functions and methods by their last name, whoever's they are."""
IMPORTS = {"__import__", "import_module", "run_module", "run_path"}
"""What imports code by a name that came as data."""

LOADERS = {"torch", "numpy", "yaml"}
"""Of these `load` is told by the name before it: it may not be imported without."""

ALLOWED = {
    # What was interrupted goes on from RLlib's checkpoint, or Tune's, in the run's own folder under the home: what its
    # owner's own process has written there, and nobody else can. No command takes one from elsewhere.
    ("rl/training/run/rllib.py", "restore_from_path"),
    ("rl/training/tuning/tuning.py", "restore"),
    ("rl/algorithms/offline/algorithm.py", "restore_from_path"),
    # A simulator of one's own is named `module:name`, by an experiment, or by an artefact that `rl.evaluate` is given:
    # a module that can be imported there, no code of the artefact. What serves takes no simulators.
    ("rl/simulators/lookup.py", "import_module"),
}


def findings(code: str) -> Iterator[str]:
    """Yield the names of what reads, or could, more than data."""
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Import(names=names):
                for parts in (alias.name.split(".") for alias in names):
                    yield from MODULES.intersection(parts)
            case ast.ImportFrom(module=module, names=names):
                parts = (module or "").split(".")
                ours = parts[0] in ("data", "rl", "serve")
                yield from MODULES.intersection(parts if ours else [*parts, *(alias.name for alias in names)])
                if parts[0] in LOADERS and {"load", "load_all"}.intersection(alias.name for alias in names):
                    yield f"{parts[0]}.load"
            case ast.Attribute(attr=name) if name in MODULES:
                yield name
            case ast.Call(func=ast.Name(id=name)) if name in CALLS.keys() | IMPORTS:
                yield name
            case ast.Call(func=ast.Attribute(value=value, attr=name), keywords=keywords):
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in keywords}
                whose = ast.unparse(value)
                if (name in CALLS.keys() | IMPORTS) and not (name == "eval" and not node.args):  # a torch module's mode
                    yield name
                elif name == "restore" and whose.rpartition(".")[2] in ("Algorithm", "Tuner"):
                    yield "restore"
                elif whose == "torch" and name == "load" and given.get("weights_only") != "True":
                    yield "torch.load"
                elif given.get("allow_pickle", "False") != "False" or (
                    whose in ("np", "numpy") and name == "load" and len(node.args) > 2
                ):
                    yield "allow_pickle"
                elif whose == "yaml" and name in ("load", "load_all") and "Safe" not in ast.unparse(node):
                    yield "yaml.load"


@pytest.mark.heavy
def test_no_room_reads_what_can_run_code() -> None:
    found = {(str(path.relative_to(ROOT)), name) for path in FILES for name in findings(path.read_text())}
    assert found == ALLOWED


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from ray import cloudpickle as cp",
        "import ray.cloudpickle",
        "from pickle import loads as read",
        "ray.cloudpickle.loads(data)",
        "from joblib import load",
        "from torch import load",
        "from numpy import load as read",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, None, True)",
        "np.lib.format.read_array(file, allow_pickle=pickled)",
        "mlflow.pyfunc.load_model(uri)",
        "Algorithm.from_checkpoint(path)",
        "algorithm.restore_from_path(path)",
        "ray.tune.Tuner.restore(path)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.load_all(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "eval(text)",
        "importlib.import_module(name)",
    ],
)
def test_a_finding_is_found(code: str) -> None:
    assert list(findings(code))


@pytest.mark.parametrize(
    "code",
    ["torch.load(path, weights_only=True)", "np.load(path)", "network.eval()", "yaml.load(text, yaml.SafeLoader)"],
)
def test_what_reads_data_alone_is_none(code: str) -> None:
    assert not list(findings(code))
