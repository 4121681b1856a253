"""Configuration as data: a frozen pydantic model filled from a TOML file, then from the command line."""

import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, CliApp, PydanticBaseSettingsSource, SettingsConfigDict

from data.errors import DataError, reason
from data.fields import PolicyName
from data.settings import Settings


class Config(BaseSettings):
    """Base of what a command takes: the same fields in the file and as `--field value`, and no others.

    The environment is not read: a run is described by its file and its command line alone.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        cli_hide_none_type=True,
        cli_implicit_flags=True,
    )

    how: ClassVar[frozenset[str]] = frozenset({"fresh", "track", "register_as"})
    """Fields that say how the command is run, and not what it gives."""

    def resolved(self) -> dict[str, Any]:
        """Return every field's value, defaults included, as a TOML file could give it; without `how`, and no None."""
        return self.model_dump(mode="json", exclude_none=True, exclude=set(self.how))

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from the call only (the command line comes in front of it by itself)."""
        return (init_settings,)


class TrainingConfig(Config):
    """Base of what trains a policy: where the policy goes."""

    name: PolicyName
    track: bool = Field(default=True, description="log to MLflow")
    register_as: str | None = Field(
        default=None, description="register the policy (see rl.registry) under this alias, such as challenger"
    )
    out: Path | None = Field(default=None, description="folder of the artefact; default: policies/NAME in the home")

    def folder(self, settings: Settings) -> Path:
        """Return the folder of the artefact."""
        return self.out or settings.home / "policies" / self.name


C = TypeVar("C", bound=Config)


def parse_config(model: type[C], arguments: Sequence[str]) -> C:
    """Fill `model` from `[FILE.toml] [--field value ...]`; the command line wins over the file.

    Exits with status 2 and one line for each mistake: an unknown field, a value out of range.

    Raises:
        DataError: the file cannot be read.
    """
    rest, values = list(arguments), dict[str, Any]()
    if rest and not rest[0].startswith("-"):
        values = read_toml(Path(rest.pop(0)))
    try:
        return CliApp.run(model, cli_args=rest, **values)
    except ValidationError as error:
        for mistake in error.errors():
            where = ".".join(str(part) for part in mistake["loc"])
            print(f"{where}: {reason(mistake)}, got {mistake['input']!r}", file=sys.stderr)
        raise SystemExit(2) from error


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file holds.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:  # not TOML, or not even UTF-8
        raise DataError(f"{path}: {error}") from error
