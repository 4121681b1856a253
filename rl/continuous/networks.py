"""Networks that go on from the champion's: Q learning or SlateQ on a table of logged and simulated transitions."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rl.artefacts.artefact import Artefact
from rl.continuous.errors import RunError
from rl.continuous.runs import Runs
from rl.continuous.simulation import AS_USER
from rl.continuous.tables import LOGGED, SIMULATED, is_held_out
from rl.continuous.work import Work
from rl.encoders.catalogue import CatalogueEncoder
from rl.experience.checks import Columns
from rl.experience.from_log import convert_log, convert_slates
from rl.experience.transitions import write
from rl.policies import SlateTransformerConfig, TransformerConfig
from rl.registry import RegistryError, connect, registry_errors
from rl.training.kinds.offline.from_log import find_histories
from rl.training.run.session import ray_session
from rl.training.run.tracking import experiment_id

LEARNER = "learner.safetensors"
DIGEST_TAG = "raycommend.continuous.digest"
"""Tag of a run of MLflow: the policy that it has trained."""
_Config = TransformerConfig | SlateTransformerConfig


def train_network(work: Work, champion: Artefact, keep: Path) -> tuple[Artefact, dict[str, Any]]:
    """Take more steps of a learner on what is new.

    Args:
        work: the run.
        champion: whose weights, items and history go on, where it is such a network.
        keep: where to write what the next run's learner goes on from.

    Returns:
        The policy with its encoder, and what is to be said of the training.

    Raises:
        RunError: the champion's network knows features, which a table of the log does not have.
    """
    import torch  # takes seconds, which bandits need not wait for

    from rl.algorithms.offline.start import save_learner

    torch.set_num_threads(work.spec.training.threads)
    config, goes_on = _config(work, champion)
    table, simulated = _read_rows(work)
    encoder = _encoder([table, *simulated], champion if goes_on else None)
    history = champion.history if goes_on else work.spec.training.history
    with ray_session(1), TemporaryDirectory(dir=work.run.folder, prefix="columns-") as scratch:
        work.say("what was seen at each decision is put together")
        rows = _write_columns(work, [table, *simulated], encoder, history, config, Path(scratch))
        algorithm = _build(work, config, scratch)
        started = "nothing"
        if goes_on:
            started = _start(work, algorithm, champion)
        for number in range(algorithm.config.passes):
            algorithm.train()
            work.say(f"pass {number + 1} of {algorithm.config.passes}")
        save_learner(algorithm, keep)
        artefact = Artefact(
            name=champion.name, config=config, policy=algorithm.policy, encoder=encoder, history=history
        ).with_graph()
        algorithm.stop()
    found = {"rows": rows, "learned": table.num_rows, "learned_simulated": sum(one.num_rows for one in simulated)}
    return artefact, found | {"went_on_from": started, "items": len(encoder.items)}


def _config(work: Work, champion: Artefact) -> tuple[_Config, bool]:
    """Return what is trained, and whether it goes on from the champion."""
    training, of = work.spec.training, champion.config
    kind = of.kind if training.policy == "as the champion" else training.policy
    if isinstance(of, _Config) and of.kind == kind and training.start == "champion":
        if not isinstance(champion.encoder, CatalogueEncoder):
            raise RunError(
                f"the champion's network sees features ({type(champion.encoder).__name__}), which the log's "
                'transitions do not have: set training.start to "nothing"'
            )
        return of, True
    if kind == "slate_transformer":
        network = training.slate_transformer.network
        return SlateTransformerConfig(network=network, slate=training.slots), False
    return TransformerConfig(network=training.transformer.network), False


def _read_rows(work: Work) -> tuple[pa.Table, list[pa.Table]]:
    """Return the logged rows that are learned from, and the simulated ones where there are any."""
    folder = work.folder("transitions")
    table = pq.read_table(folder / LOGGED)
    table = table.filter(pa.array(~is_held_out(table, work.run.steps["ingest"]["split"])))
    path = folder / SIMULATED
    return table, [pq.read_table(path).drop_columns([AS_USER])] if path.is_file() else []


def _encoder(tables: list[pa.Table], champion: Artefact | None) -> CatalogueEncoder:
    """Return the encoder of all items: first those that the champion knows, in its order, then the new ones."""
    known: tuple[str, ...] = () if champion is None else champion.encoder.items
    shown = {item for table in tables for some in table["candidates"].to_pylist() for item in some}
    return CatalogueEncoder((*known, *sorted(shown.difference(known))))


def _write_columns(
    work: Work, tables: list[pa.Table], encoder: CatalogueEncoder, history: int, config: _Config, folder: Path
) -> int:
    """Write the columns that the learner reads; returns how many rows there are."""
    size = max(len(some) for table in tables for some in table["candidates"].to_pylist())
    rows = 0
    for number, table in enumerate(tables):
        histories = find_histories(table, encoder, history, work.reward.wait_s)
        columns: Columns
        if isinstance(config, SlateTransformerConfig):
            columns = convert_slates(table, encoder, size, config.slate, histories)
        else:
            columns = convert_log(table, encoder, size, histories, future=work.spec.data.discount > 0)
        write(str(folder / f"{number}.parquet"), columns, n_items=len(encoder.items))
        rows += len(columns["rewards"])
    return rows


def _build(work: Work, config: _Config, folder: str) -> Any:
    """Return the algorithm that learns from a folder of columns."""
    from rl.algorithms.offline.algorithm import OfflineQConfig, OfflineSlateQConfig

    training = work.spec.training
    made = OfflineSlateQConfig() if isinstance(config, SlateTransformerConfig) else OfflineQConfig()
    of = training.slate_transformer if isinstance(config, SlateTransformerConfig) else training.transformer
    made = made.offline_data(input_=folder).training(hyperparameters=of.model_copy(update={"network": config.network}))
    return made.debugging(seed=work.spec.seed, log_level="ERROR").build_algo()


def _start(work: Work, algorithm: Any, champion: Artefact) -> str:
    """Let the learner go on from the champion's, or from its weights where that is not kept; returns from what."""
    from rl.algorithms.offline.start import start_from_learner, start_from_weights

    for path in _learners(work, champion.digest):
        return "weights and optimiser" if start_from_learner(algorithm, path) else "weights"
    start_from_weights(algorithm, champion.policy.state_dict())
    return "averaged weights"


def _learners(work: Work, digest: str) -> Iterator[Path]:
    """Yield where the learner is that has trained a policy: here, or in the run's files of MLflow."""
    for folder in Runs(work.settings.home, work.spec.name).folders():
        path = folder / "train" / LEARNER
        if path.is_file() and digest in (folder / "run.json").read_text():
            yield path
    with suppress(RegistryError), TemporaryDirectory(dir=work.run.folder, prefix="fetched-") as scratch:
        client = connect(work.settings)
        with registry_errors(work.settings):
            experiment = experiment_id(client, work.spec.name, work.settings.tracking_files)
            for run in client.search_runs([experiment], f"tags.`{DIGEST_TAG}` = '{digest}'"):
                yield Path(client.download_artifacts(run.info.run_id, f"train/{LEARNER}", scratch))
