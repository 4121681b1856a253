"""Where a run keeps what it writes, from the environment (`RAYCOMMEND_*`, `MLFLOW_TRACKING_URI`).

What may be a secret need not stand there: `NAME_FILE` names a file that has the value of `NAME`.
"""

import os
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from data.errors import DataError

_DATABASES = ("postgresql", "mysql", "mssql")
"""Schemes of MLflow's tracking stores that no server stands before."""


class EnvironmentSettings(BaseSettings):
    """Settings of which each comes from a variable of the environment, or from the file that `NAME_FILE` names.

    Raises:
        DataError: both are set, the file cannot be read, or it does not have one line.
    """

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        *_: Any,
        **__: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Ask what the code gives first, then files, then the environment."""
        return init_settings, _Files(settings_cls), env_settings


class _Files(PydanticBaseSettingsSource):
    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[str | None, str, bool]:
        key = str(field.validation_alias or field_name)
        name = str(field.validation_alias or f"{self.config.get('env_prefix')}{field_name}".upper())
        path = os.environ.get(f"{name}_FILE")
        if not path or self.current_state.keys() & {key, field_name}:
            return None, key, False
        if name in os.environ:
            raise DataError(f"{name} and {name}_FILE are both set: one must go")
        try:
            lines = Path(path).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
            raise DataError(f"{name}_FILE: {path}: {reason}") from None
        if len(lines) != 1 or not lines[0]:  # an empty key would be none: whoever asks would be answered
            raise DataError(f"{name}_FILE: {path}: expected one line with the value, got {len(lines)} lines")
        return lines[0], key, False

    def __call__(self) -> dict[str, Any]:
        found = (self.get_field_value(field, name) for name, field in self.settings_cls.model_fields.items())
        return {key: value for value, key, _ in found if value is not None}


class Settings(EnvironmentSettings):
    """Locations. Everything lies under one folder unless a location of its own is given."""

    model_config = SettingsConfigDict(env_prefix="RAYCOMMEND_", frozen=True, populate_by_name=True)

    home: Path = Field(default=Path("var"), description="folder for everything a run writes")
    store: str | None = Field(
        default=None, description="URL of the log, sqlite:///path or postgresql://; default: SQLite in the home"
    )
    archive: str | None = Field(default=None, description="path or pyarrow filesystem URI of the Parquet archive")
    tracking: str | None = Field(
        default=None,
        validation_alias="MLFLOW_TRACKING_URI",
        description="MLflow's tracking URI; default: SQLite and a folder in the home folder",
    )

    plain: bool = Field(
        default=False, description="use frameworks in their own ways alone, without what goes past them for speed"
    )

    @property
    def store_url(self) -> str:
        """URL of the log's database."""
        return self.store or f"sqlite:///{self.home.absolute() / 'store.db'}"

    @property
    def archive_uri(self) -> str:
        """Where ingested events and rejects lie as Parquet."""
        return self.archive or str(self.home.absolute() / "archive")

    @property
    def tracking_uri(self) -> str:
        """URI of MLflow's tracking store; it refuses to keep runs in plain files."""
        return self.tracking or f"sqlite:///{self.registry_file}"

    @property
    def registry_file(self) -> Path:
        """The file of MLflow's tracking store where no `tracking` is given."""
        return self.home.absolute() / "mlflow.db"

    @property
    def registry_missing(self) -> bool:
        """Whether that file counts and is not there: MLflow would make an empty one for who only reads."""
        return self.tracking is None and not self.registry_file.exists()

    @property
    def tracking_files(self) -> Path | None:
        """Folder of MLflow's artefacts, beside a tracking store that is a file; None: a tracking server says where.

        MLflow itself would put those of a database into `mlruns` of the folder that a command is run in.
        """
        uri = self.tracking_uri
        if uri.startswith("sqlite:///"):
            return Path(uri.removeprefix("sqlite:///")).absolute().parent / "mlartifacts"
        of_database = uri.partition("://")[0].partition("+")[0] in _DATABASES
        return self.home.absolute() / "mlartifacts" if of_database else None
