"""Where a run keeps what it writes, from the environment (`RAYCOMMEND_*`)."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Locations. Everything lies under one folder unless a location of its own is given."""

    model_config = SettingsConfigDict(env_prefix="RAYCOMMEND_", frozen=True)

    home: Path = Field(default=Path("var"), description="folder for everything a run writes")
    store: str | None = Field(default=None, description="SQLAlchemy URL of the log; default: SQLite in the home folder")
    archive: str | None = Field(default=None, description="path or pyarrow filesystem URI of the Parquet archive")

    @property
    def store_url(self) -> str:
        """URL of the log's database."""
        return self.store or f"sqlite:///{self.home.absolute() / 'store.db'}"

    @property
    def archive_uri(self) -> str:
        """Where ingested events and rejects lie as Parquet."""
        return self.archive or str(self.home.absolute() / "archive")
