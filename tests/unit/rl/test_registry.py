"""The registry: what is fetched is what was registered, or nothing. Against a real MLflow store."""

import hashlib
import io
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.settings import Settings
from rl import registry, train
from rl.artefacts.artefact import Artefact, load_served, save
from rl.artefacts.description import TrainedIn
from rl.artefacts.errors import ArtefactError
from rl.artefacts.shelf import fetch_folder, open_shelf
from rl.downloads import fetch
from rl.encoders.catalogue import CatalogueEncoder
from rl.encoders.simulated import SimulatedEncoder
from rl.policies import (
    RandomConfig,
    RidgeConfig,
    TransformerConfig,
    build,
)
from rl.policies.transformer.config import QNetworkConfig
from rl.promotions import promote, roll_back
from rl.registry import (
    RegisteredPolicy,
    RegistryError,
    moving_alias,
    register,
    resolve_alias,
    set_alias,
    show,
)

pytestmark = pytest.mark.heavy  # MLflow takes seconds to import

NETWORK = TransformerConfig(network=QNetworkConfig(width=8))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, mlflow_tables: Path) -> Iterator[Settings]:
    """One home for all; each test has a model of its own."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        shutil.copy(mlflow_tables, home)
        patch.setenv("RAYCOMMEND_HOME", str(home))
        yield Settings(home=home)


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


def saved(folder: Path, items: str = "abc") -> Path:
    """Save a transformer that knows a catalogue of ids."""
    encoder = CatalogueEncoder(tuple(items))
    policy = build(NETWORK, 0, 1, encoder.popularity)
    save(Artefact(name="net", config=NETWORK, policy=policy, encoder=encoder, history=5), folder)
    return folder


def files(settings: Settings, version: RegisteredPolicy) -> Path:
    """Return where MLflow keeps the files of a version."""
    registered = client(settings).get_model_version(version.model, str(version.version))
    return Path(registered.source.removeprefix("file://"))


def client(settings: Settings) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(settings.tracking_uri)


def test_the_champion_is_fetched_as_it_was_registered(settings: Settings, model: str, tmp_path: Path) -> None:
    assert resolve_alias(settings, model) is None
    registered = register(settings, saved(tmp_path / "net"), "champion", model)
    assert registered == resolve_alias(settings, model)
    assert (registered.version, registered.name) == (1, "net")
    folder = fetch(settings, registered)
    assert folder == fetch_folder(registered.digest, settings)
    assert sorted(path.name for path in folder.iterdir()) == ["arrays.safetensors", "policy.json"]
    original, fetched = load_served(tmp_path / "net"), load_served(folder)
    assert (fetched.digest, fetched.encoder) == (registered.digest, original.encoder)
    for name, array in original.policy.state_dict().items():
        np.testing.assert_array_equal(fetched.policy.state_dict()[name], array)
    assert [path.name for path in settings.home.iterdir() if path.name.startswith(".")] == []


def test_what_is_there_is_not_fetched_again(settings: Settings, model: str, tmp_path: Path) -> None:
    version = register(settings, saved(tmp_path / "net"), model=model)
    folder = fetch(settings, version)
    (files(settings, version) / "policy.json").unlink()
    assert fetch(settings, version) == folder


def test_what_was_changed_where_it_is_served_is_fetched_again(settings: Settings, model: str, tmp_path: Path) -> None:
    version = register(settings, saved(tmp_path / "net"), model=model)
    folder = fetch(settings, version)
    (served,) = (settings.home / "archive/served").glob(f"{version.digest}.*")
    served.write_bytes(b"")
    (folder / "arrays.safetensors").write_bytes(b"")
    assert load_served(fetch(settings, version)).digest == version.digest


def test_the_same_artefact_is_one_version(settings: Settings, model: str, tmp_path: Path) -> None:
    first = register(settings, saved(tmp_path / "net"), model=model)
    other = register(settings, saved(tmp_path / "other", "abcd"), "champion", model)
    assert register(settings, tmp_path / "net", "challenger", model) == first
    assert (first.version, other.version) == (1, 2)
    assert show(settings, model) == {
        "model": model,
        "aliases": {"champion": 2, "challenger": 1},
        "versions": [
            {"version": 2, "policy": "net", "digest": other.digest},
            {"version": 1, "policy": "net", "digest": first.digest},
        ],
    }


def test_who_is_the_champion_is_replaced_by_the_gate_alone(settings: Settings, model: str, tmp_path: Path) -> None:
    first = register(settings, saved(tmp_path / "net"), "champion", model)
    refused = (
        f"version 1 of {model} is the champion; only the gate may let version 2 replace it: "
        f"python -m rl.promote 2 --model {model}, with --force REASON"
    )
    with pytest.raises(RegistryError, match=refused):
        register(settings, saved(tmp_path / "other", "abcd"), "champion", model)
    second = register(settings, tmp_path / "other", "challenger", model)
    assert second.version == 2
    with pytest.raises(RegistryError, match=refused):
        set_alias(settings, "champion", 2, model)
    assert resolve_alias(settings, model) == set_alias(settings, "champion", 1, model) == first
    assert register(settings, tmp_path / "net", "champion", model) == first
    promote(settings, second, first, "run")
    with pytest.raises(RegistryError, match="version 2 of"):
        set_alias(settings, "champion", 1, model)
    with pytest.raises(RegistryError, match="version=9"):
        set_alias(settings, "champion", 9, model)
    assert resolve_alias(settings, model) == second
    assert set_alias(settings, "challenger", 1, model) == first  # other aliases are free


def test_of_two_who_move_the_champion_one_asks_again(settings: Settings, model: str, tmp_path: Path) -> None:
    first = register(settings, saved(tmp_path / "net"), "champion", model)
    second, third = (register(settings, saved(tmp_path / name, name), model=model) for name in ("two", "three"))
    with moving_alias(settings, "champion"):
        for move in (
            lambda: promote(settings, second, first, "run"),
            lambda: roll_back(settings, model),
            lambda: set_alias(settings, "champion", 1, model),
        ):
            with pytest.raises(RegistryError, match=f"process {os.getpid()} moves an alias now"):
                move()
    promote(settings, second, first, "run")
    with pytest.raises(RegistryError, match="champion is version 2 by now, the challenger was compared with version 1"):
        promote(settings, third, first, "run")


@pytest.mark.parametrize("done", range(5))
def test_who_is_killed_while_promoting_leaves_what_can_be_gone_on_with(
    settings: Settings, done: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After any of its calls the champion is the old one or the new, and both commands then do what they say."""
    model = f"killed_{done}"
    first = register(settings, saved(tmp_path / "net"), "champion", model)
    second = register(settings, saved(tmp_path / "other", "abcd"), model=model)
    writes = ("set_model_version_tag", "set_registered_model_tag", "set_registered_model_alias")
    mlflow = type(client(settings))
    left = iter(range(done))

    def die_after(write: Callable[..., None]) -> Callable[..., None]:
        def called(*arguments: Any) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt
            write(*arguments)

        return called

    with monkeypatch.context() as patch:
        for name in writes:
            patch.setattr(mlflow, name, die_after(getattr(mlflow, name)))
        with pytest.raises(KeyboardInterrupt):
            promote(settings, second, first, "run", forced="in a hurry")
    assert resolve_alias(settings, model) == first
    with pytest.raises(RegistryError, match="nothing was promoted"):
        roll_back(settings, model)
    promote(settings, second, first, "run")
    now = resolve_alias(settings, model)
    assert (now, now and now.forced) == (second, None)
    assert roll_back(settings, model) == (2, 1)
    with pytest.raises(RegistryError, match="nothing was promoted"):
        roll_back(settings, model)


def test_a_champion_that_was_deleted_is_passed_over(settings: Settings, model: str, tmp_path: Path) -> None:
    first = register(settings, saved(tmp_path / "net"), "champion", model)
    second, third = (register(settings, saved(tmp_path / name, name), model=model) for name in ("two", "three"))
    promote(settings, second, first, "run")
    promote(settings, third, second, "run")
    client(settings).delete_model_version(model, "2")
    assert roll_back(settings, model) == (3, 1)
    client(settings).delete_model_version(model, "1")
    assert resolve_alias(settings, model) is None
    assert set_alias(settings, "champion", 3, model) == third  # there was none: it is the first again


@pytest.mark.parametrize("name", ["policy.json", "arrays.safetensors"])
def test_other_files_than_were_registered_are_refused(settings: Settings, name: str, tmp_path: Path) -> None:
    model = f"changed_{name}"
    version = register(settings, saved(tmp_path / "net"), "champion", model)
    saved(tmp_path / "other", "xyz")
    (files(settings, version) / name).write_bytes((tmp_path / "other" / name).read_bytes())
    with pytest.raises(ArtefactError, match=f"version 1 of {model} is refused: .*sha256"):
        fetch(settings, version)
    assert not open_shelf(settings).has(version.digest)


def test_an_artefact_of_the_right_hash_that_is_no_policy_is_refused(
    settings: Settings, model: str, tmp_path: Path
) -> None:
    version = register(settings, saved(tmp_path / "net"), model=model)
    (files(settings, version) / "policy.json").write_text("{}")
    lying = replace(version, sha256="44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a")
    with pytest.raises(ArtefactError, match="does not describe a policy"):
        fetch(settings, lying)
    assert not open_shelf(settings).has(version.digest)


def test_files_that_are_gone_are_the_registrys_failure(settings: Settings, model: str, tmp_path: Path) -> None:
    version = register(settings, saved(tmp_path / "net"), model=model)
    (files(settings, version) / "arrays.safetensors").unlink()
    with pytest.raises(RegistryError, match="the registry at sqlite"):
        fetch(settings, version)


def test_what_cannot_be_served_is_not_registered(settings: Settings, model: str, tmp_path: Path) -> None:
    config, encoder = RidgeConfig(), SimulatedEncoder(n_items=5, n_features=3, n_states=1)
    policy, where = build(config, 3, 1, np.zeros(6)), TrainedIn(name="raycommend/Wheel-v0")
    save(Artefact(name="wheel", config=config, policy=policy, encoder=encoder, environment=where), tmp_path / "wheel")
    for folder, message in ((tmp_path / "wheel", "which no request has"), (tmp_path, "no policy in")):
        with pytest.raises(ArtefactError, match=message):
            register(settings, folder, "champion", model)
    assert resolve_alias(settings, model) is None


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({}, "has no tag sha256, digest, policy: register policies with"),
        ({"sha256": "../x", "digest": "../x", "policy": "p"}, "tags that are no hashes"),
        ({"sha256": "a" * 64, "digest": "../../..", "policy": "p"}, "tags that are no hashes"),
    ],
)
def test_versions_that_others_made_are_refused(
    settings: Settings, tags: dict[str, str], message: str, tmp_path: Path
) -> None:
    mlflow, model = client(settings), f"others_{len(tags)}_{len(tags.get('sha256', ''))}"
    mlflow.create_registered_model(model)
    mlflow.create_model_version(model, tmp_path.as_uri(), tags=tags)
    mlflow.set_registered_model_alias(model, "champion", "1")
    with pytest.raises(RegistryError, match=message):
        resolve_alias(settings, model)


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.mark,)


def pickled(bomb: Bomb) -> bytes:
    return pickle.dumps(bomb)


def numpys(bomb: Bomb) -> bytes:
    blob = io.BytesIO()
    np.save(blob, np.array([bomb], dtype=object))
    return blob.getvalue()


def torchs(bomb: Bomb) -> bytes:
    blob = io.BytesIO()
    torch.save({"weights": bomb}, blob)
    return blob.getvalue()


@pytest.fixture
def bomb(tmp_path: Path) -> Iterator[Bomb]:
    """What must not be unpickled: that it works is seen at the end."""
    made = Bomb(tmp_path / "mark")
    yield made
    assert not made.mark.exists()
    pickle.loads(pickled(made))
    assert made.mark.exists()


def registered_by_another(settings: Settings, model: str, folder: Path, **change: bytes) -> RegisteredPolicy:
    """Register an artefact with other files, and all the hashes right, as one could who may write to the registry."""
    version = register(settings, folder, model=model)
    there = files(settings, version)
    description = json.loads((there / "policy.json").read_text())
    for part, content in change.items():
        name = {"arrays": "arrays.safetensors", "graph": "model.onnx"}[part]
        (there / name).write_bytes(content)
        description[f"{part}_sha256"] = hashlib.sha256(content).hexdigest()
    (there / "policy.json").write_text(json.dumps(description))
    sha256 = hashlib.sha256((there / "policy.json").read_bytes()).hexdigest()
    return replace(version, sha256=sha256, digest=sha256[:8])


@pytest.mark.parametrize("write", [pickled, numpys, torchs])
@pytest.mark.parametrize("part", ["arrays", "graph"])
def test_a_pickle_in_the_registry_is_refused_and_not_run(
    settings: Settings, write: Callable[[Bomb], bytes], part: str, bomb: Bomb, tmp_path: Path
) -> None:
    model = f"{write.__name__}_{part}"
    version = registered_by_another(settings, model, saved(tmp_path / "net"), **{part: write(bomb)})
    with pytest.raises(ArtefactError, match=f"version 1 of {model} is refused"):
        fetch(settings, version)
    assert not open_shelf(settings).has(version.digest)


def test_code_beside_an_artefact_is_not_fetched(settings: Settings, model: str, bomb: Bomb, tmp_path: Path) -> None:
    """What MLflow itself would import, or unpickle, of a model."""
    version = register(settings, saved(tmp_path / "net"), model=model)
    there = files(settings, version)
    (there / "MLmodel").write_text("flavors: {python_function: {loader_module: evil, python_model: model.pkl}}")
    (there / "evil.py").write_text(f"open({str(bomb.mark)!r}, 'w')")
    (there / "model.pkl").write_bytes(pickled(bomb))
    folder = fetch(settings, version)
    assert sorted(path.name for path in folder.iterdir()) == ["arrays.safetensors", "policy.json"]


@pytest.mark.parametrize("place", ["policy", "encoder"])
def test_a_kind_is_one_of_ours_and_no_path_of_a_class(settings: Settings, place: str, tmp_path: Path) -> None:
    version = register(settings, saved(tmp_path / "net"), model=f"kind_{place}")
    description = files(settings, version) / "policy.json"
    text = json.loads(description.read_text())
    text[place]["kind"] = "os.system"
    description.write_text(json.dumps(text))
    sha256 = hashlib.sha256(description.read_bytes()).hexdigest()
    with pytest.raises(ArtefactError, match=r"does not describe a policy: .*os\.system"):
        fetch(settings, replace(version, sha256=sha256, digest=sha256[:8]))


@pytest.mark.parametrize(
    "uri", ["http://me:secret@127.0.0.1:9/", "postgresql://me:secret@127.0.0.1:9/x", "sqlite://me:secret@host/x.db"]
)
def test_a_registry_that_does_not_answer_is_named_without_its_password(uri: str, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"the registry at .*://(127.0.0.1:9|host)/") as error:
        resolve_alias(Settings(home=tmp_path, tracking=uri))
    assert "secret" not in str(error.value)


def test_the_command_registers_points_and_shows(
    settings: Settings, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> Any:
        assert registry.main(["--model", model, *arguments]) == 0
        return json.loads(capsys.readouterr().out)

    folder = str(saved(tmp_path / "net"))
    made = run("register", folder)
    assert (made["version"], made["model"], len(made["digest"])) == (1, model, 8)
    assert run("alias", "challenger", "1") == made
    assert run("show")["aliases"] == {"challenger": 1}
    assert run("register", folder, "--alias", "champion") == made
    assert run("show")["aliases"] == {"challenger": 1, "champion": 1}
    for wrong, said in (
        (["register", str(tmp_path)], "no policy in"),
        (["alias", "champion", "7"], "not found"),
        (["--model", "none", "show"], "not found"),
    ):
        assert registry.main(["--model", model, *wrong]) == 2
        assert said in capsys.readouterr().err


def test_a_training_registers_what_it_has_trained(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    market = '{"kind": "generated", "users": 40, "items": 12, "kinds": 3, "invoices": 400}'
    given = ["--name", "tiny", "--market", market, "--encoder.rank", "3", "--decisions", "40", "--no-track"]
    assert train.main([*given, "--policy", RandomConfig().model_dump_json(), "--register_as", "challenger"]) == 0
    report = json.loads(capsys.readouterr().out)
    version = resolve_alias(settings, alias="challenger")
    assert version is not None
    assert (report["registered"], report["digest"], version.name) == (version.version, version.digest, "tiny")
    assert train.main([*given, "--seed", "1", "--register_as", "champion"]) == 0  # there was none
    assert json.loads(capsys.readouterr().out)["as"] == "champion"
    assert train.main([*given, "--seed", "2", "--register_as", "champion"]) == 3
    out, err = capsys.readouterr()
    number = json.loads(out)["registered"]
    assert f"is version {number} of the registry, but not champion: " in err
    assert f"python -m rl.promote {number}, with --force REASON" in err
    now = resolve_alias(settings)
    assert now is not None
    assert now.version < number
