"""What is trained continuously, from what, and when: the fields of a TOML file, all but the name with defaults."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from data.fields import PolicyName
from data.reward import RewardSpec
from rl.algorithms.offline.config import OfflineQHyperparameters, OfflineSlateQHyperparameters
from rl.config import Config
from rl.gate.specification import GateSpec
from rl.registry import MODEL
from rl.training.run.experiment import Section


class Trigger(Section):
    """When a run begins: as soon as one of these says so, or the run before has not ended."""

    decisions: Annotated[
        int | None, Field(ge=1, description="so many new decisions whose wait windows have closed; none: not by them")
    ] = 10_000
    every_s: Annotated[float | None, Field(gt=0, description="seconds since the last run began; none: not by time")] = (
        None
    )
    drift: Annotated[bool, Field(description="something has changed since the last run, see rl.drift")] = True
    look_s: Annotated[float, Field(gt=0, description="seconds between two looks")] = 60.0


class Ingest(Section):
    """Which files of a node are ingested first; none: what nodes send over HTTP is there already."""

    node: Annotated[str, Field(description="a shipped one, or the path of a TOML file")] = "online_retail"
    paths: Annotated[
        tuple[str, ...], Field(description="files, globs, folders or URIs; known rows are passed over")
    ] = ()
    archive: Annotated[bool, Field(description="move closed days of the log to the archive")] = False


class Data(Section):
    """Which decisions are learned from, and what each counts."""

    most: Annotated[int, Field(ge=1, description="new decisions that are read, the newest: so memory is bounded")] = (
        200_000
    )
    least: Annotated[int, Field(ge=10, description="new decisions without which there is nothing to learn")] = 100
    held_out: Annotated[
        float,
        Field(gt=0, lt=1, description="share of them, the newest, that only judges: the gate, and the simulator"),
    ] = 0.3
    weigh: Annotated[
        Literal["alike", "age", "value"],
        Field(description="rows count alike, by their age, or by a number that says what they are worth"),
    ] = "alike"
    half_life_s: Annotated[float, Field(gt=0, description="with `age`: a row so much older counts half")] = 86_400.0
    value: Annotated[
        str,
        Field(
            description="with `value`: a number of the context, of what a visit is worth; or `reward`, by which rows "
            "that earned much count more, and what is predicted is more than what comes"
        ),
    ] = "reward"
    simulated: Annotated[
        float, Field(ge=0, le=0.9, description="share of the rows that are learned from which are simulated")
    ] = 0.2
    discount: Annotated[float, Field(ge=0, le=1, description="of a session's later decisions, for networks")] = 0.9


class Training(Section):
    """How the challenger is trained."""

    policy: Annotated[
        Literal["as the champion", "transformer", "slate_transformer"],
        Field(description="what is trained: the champion's kind, or a network that begins anew where it is no such"),
    ] = "as the champion"
    start: Annotated[
        Literal["champion", "nothing"], Field(description="go on from what the champion has learned, or begin anew")
    ] = "champion"
    slots: Annotated[int, Field(ge=1, description="of a slate network that begins anew")] = 3
    history: Annotated[int, Field(ge=1, description="entries of the histories of a network that begins anew")] = 20
    transformer: OfflineQHyperparameters = OfflineQHyperparameters()
    slate_transformer: OfflineSlateQHyperparameters = OfflineSlateQHyperparameters()
    threads: Annotated[int, Field(ge=1, description="of linear algebra; networks this small are slower with more")] = 1


class ContinuousSpec(Config):
    """Train a challenger from what the log has new, and let it replace the champion if the gate lets it through."""

    model_config = SettingsConfigDict(cli_prog_name="python -m rl.continuous")
    how: ClassVar[frozenset[str]] = frozenset({"once", "keep", "trigger"})

    name: PolicyName = Field(description="of the runs and of their policies; a run is continued by it")
    model: str = Field(default=MODEL, description="MLflow's registered model, of which the champion is continued")
    seed: int = Field(default=0, ge=0)
    reward: RewardSpec | None = Field(
        default=None, description="what feedback is worth; default: what the champion was trained for"
    )
    trigger: Trigger = Trigger()
    ingest: Ingest = Ingest()
    data: Data = Data()
    training: Training = Training()
    gate: GateSpec = Field(default=GateSpec(), description="what the gate asks, see rl/README.md")
    once: bool = Field(default=False, description="do at most one run, if one is due, and end: for a cron job")
    keep: int = Field(default=20, ge=1, description="runs whose folders are kept, the newest")

    @model_validator(mode="after")
    def _gate_reads_what_was_trained_for(self) -> "ContinuousSpec":
        if self.reward is not None and "reward" in self.gate.model_fields_set and self.gate.reward != self.reward:
            raise ValueError(
                "gate.reward must be reward, or be left out: a policy is judged by what it was trained for"
            )
        return self
