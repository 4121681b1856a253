"""What `rl.tune` takes: an experiment, and the fields of it that are searched."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import SettingsConfigDict

from data.errors import reason
from data.fields import PolicyName
from rl.config import Config, read_toml
from rl.training.kinds.registry import RETAIL, UnknownKindError, find
from rl.training.run.errors import TrainingError
from rl.training.run.experiment import Section, SimulatorExperiment


class Range(Section):
    """Numbers from `low` to `high`."""

    type: Literal["float", "int"]
    low: float
    high: Annotated[float, Field(description="excluded for `float`, included for `int`")]
    log: Annotated[bool, Field(description="every order of magnitude alike")] = False

    @property
    def edges(self) -> list[Any]:
        """Return the values that must be allowed for all to be."""
        return [int(end) if self.type == "int" else end for end in (self.low, self.high)]


class Choice(Section):
    """One of several values."""

    type: Literal["choice"]
    values: Annotated[tuple[Any, ...], Field(min_length=1)]

    @property
    def edges(self) -> list[Any]:
        """Return all values."""
        return list(self.values)


class Tuning(Config):
    """Search for the hyper-parameters that give the highest evaluated return."""

    model_config = SettingsConfigDict(cli_prog_name="python -m rl.tune")

    name: PolicyName = Field(default="search", description="of the search; one that was killed is continued by it")
    experiment: Path = Field(description="TOML of the experiment that is varied; of a kind that plays a simulator")
    fixed: dict[str, Any] = Field(default={}, description="its fields that differ from the file, by their dotted path")
    search: dict[str, Annotated[Range | Choice, Field(discriminator="type")]] = Field(
        description="its fields that are searched, by their dotted path", min_length=1
    )
    samples: int = Field(default=10, ge=1, description="trials")
    max_concurrent: int = Field(default=2, ge=1, description="trials at the same time")
    cpus_per_trial: float = Field(default=1.0, gt=0, description="that Ray reserves for each, beside its runners'")
    grace: int = Field(default=10_000, ge=1, description="environment steps before a trial may be stopped")
    reduction: float = Field(default=3.0, gt=1, description="one of so many trials goes on at each milestone")
    seed: int = Field(default=0, ge=0, description="of the draws from the search space")
    fresh: bool = Field(default=False, description="begin anew, even if an unfinished search has this name")
    track: bool = Field(default=True, description="log to MLflow")

    def trial(self, sampled: dict[str, Any]) -> SimulatorExperiment:
        """Return the experiment with sampled values, which are given by their dotted path.

        Raises:
            TrainingError: the experiment cannot be read, is of another kind, or does not allow a value.
        """
        values = read_toml(self.experiment)
        for path, value in (self.fixed | sampled).items():
            try:
                _set(values, path.split("."), value)
            except (AttributeError, TypeError) as error:
                raise TrainingError(f"{self.experiment}: {path} is within a field that is no table") from error
        try:
            experiment = find(str(values.get("kind", RETAIL))).experiment(**values)
        except UnknownKindError as error:
            raise TrainingError(f"{self.experiment}: {error}") from error
        except ValidationError as error:
            mistakes = [f"{'.'.join(map(str, m['loc']))}: {reason(m)}, got {m['input']!r}" for m in error.errors()]
            raise TrainingError("\n".join(f"{self.experiment}: {mistake}" for mistake in mistakes)) from error
        if not isinstance(experiment, SimulatorExperiment):
            raise TrainingError(f"{self.experiment}: kind {values.get('kind', RETAIL)} has no evaluation to search by")
        return experiment

    def check(self) -> SimulatorExperiment:
        """Return the experiment at the first edges of its ranges, after trying all edges.

        Raises:
            TrainingError: see `trial`.
        """
        first = {path: space.edges[0] for path, space in self.search.items()}
        for path, space in self.search.items():
            for edge in space.edges:
                self.trial(first | {path: edge})
        return self.trial(first)


def _set(values: dict[str, Any], path: list[str], value: Any) -> None:
    *tables, name = path
    for table in tables:
        values = values.setdefault(table, {})
    values[name] = value
