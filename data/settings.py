"""Where a run keeps what it writes, from the environment (`RAYCOMMEND_*`, `MLFLOW_TRACKING_URI`)."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
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
        return self.tracking or f"sqlite:///{self.home.absolute() / 'mlflow.db'}"

    @property
    def tracking_files(self) -> Path | None:
        """Folder of MLflow's artefacts; None: the tracking server of `tracking` says where."""
        return None if self.tracking else self.home.absolute() / "mlartifacts"
