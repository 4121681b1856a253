"""What is served and how: the arguments of the Serve application."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from data.fields import MAX_DAYS, LoggedId, PolicyName
from data.log.archiving.retention import Retention
from data.reward import RewardSpec
from data.settings import EnvironmentSettings, Settings
from rl.evaluation.abtests.specification import ReadSpec
from rl.online.snapshots import SnapshotSettings
from rl.provenance.capture import ProofSettings
from serve.contracts.rules import BusinessRules, Lookback

CHAMPION = "champion"
"""The name under which the registry's champion is served."""

Origin = Annotated[str, Field(pattern=r"^(\*|https?://[^/\s]+)$")]
"""Of a page, as browsers send it: scheme, host, and a port that is not the scheme's; or all."""
Share = Annotated[float, Field(ge=0)]


class Probation(BaseModel):
    """How a new champion is compared with the one before it, and taken back if it does worse."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    share: float = Field(default=0.1, gt=0, lt=1, description="of the users: they stay with the champion before it")
    days: float = Field(default=14.0, gt=0, le=MAX_DAYS, description="after which it is through in any case")
    read: ReadSpec = Field(default=ReadSpec(), description="what worse means; guardrails, if there are any")


class Champion(BaseModel):
    """The policy that MLflow's registry names: it changes when the alias does, without a restart."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    model: str = Field(default="raycommend", description="the registered model")
    alias: str = Field(default="champion", description="of the version that is served; only `champion` is the gate's")
    share: Share = Field(default=1.0, description="of the traffic, beside those of `policies`")
    probation: Probation | None = Field(
        default=Probation(), description="of a new champion that was promoted; null: nothing is taken back by itself"
    )


class Limits(BaseModel):
    """What a request, a client and a replica may take. One replica's, but for the rate: that is the whole service's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_body_bytes: int = Field(default=1_048_576, ge=1, description="of one request; a larger one is answered 413")
    body_timeout_s: float = Field(default=10.0, gt=0, description="for the whole body to arrive; after it 408")
    max_buffered_bytes: int = Field(
        default=67_108_864, ge=1, description="of all bodies that are arriving or being answered; above it 503"
    )
    requests_per_s: float | None = Field(
        default=None, gt=0, description="of one key, or of one address without a key; more are answered 429"
    )
    burst: int = Field(default=100, ge=1, description="requests that may come at once, after a pause")
    max_in_flight: int = Field(default=256, ge=1, description="requests being answered; more are answered 503")
    max_streams: int = Field(default=256, ge=1, description="event streams that are open; more are answered 503")


class DailyArchive(BaseModel):
    """When closed days move from the log to the archive, and how long they are kept there: `data.archive`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    hour: int = Field(default=3, ge=0, le=23, description="of the day, in UTC")
    keep_days: int = Field(default=0, ge=0, le=MAX_DAYS, description="closed days that stay in the log")
    retention: Retention = Retention()


class Examination(BaseModel):
    """How often the service makes its last decisions again, and compares them with the log: `serve.audit`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    every_s: float = Field(default=3600.0, gt=0, description="seconds between two")
    decisions: int = Field(default=2_000, ge=1, description="that are made again, about")


class TraceSettings(BaseModel):
    """Which requests are traced, and where spans go (OTLP over HTTP). Headers, as of a token, are the environment's."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^/\s@]+(/\S*)?$",
        description="base URL of a collector, http://localhost:4318; default: OTEL_EXPORTER_OTLP_ENDPOINT, or none",
    )
    sample: float | None = Field(
        default=None, ge=0, le=1, description="share of the requests; default: what OTEL_TRACES_SAMPLER says, or all"
    )
    follow: bool = Field(
        default=True,
        description="trace all requests whose `traceparent` is sampled; false: only their share, whoever asks for more",
    )


class ServiceConfig(BaseModel):
    """The application's arguments; `serve/config.yaml` gives them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policies: dict[PolicyName, Share] = Field(
        default={"linear_thompson": 1.0},
        description="shares of the traffic by policy; each was trained into policies/NAME of the home",
    )
    champion: Champion | None = Field(default=None, description="serve the registry's champion too, or alone")
    reward: RewardSpec = Field(default=RewardSpec(), description="what feedback is worth: the default objective")
    objectives: dict[PolicyName, RewardSpec] = Field(
        default={}, description="others that a request may ask for by name; each policy learns for each of them"
    )
    learn_from: Literal["own", "all"] = Field(
        default="own", description="each policy learns from its own decisions only, or from those of all"
    )
    rules: BusinessRules = Field(
        default=BusinessRules(), description="of every slate for which a request gives no others"
    )
    memory: Lookback = Lookback()
    nodes: tuple[str, ...] = Field(
        default=("online_retail",),
        description="nodes whose events are taken over HTTP: shipped ones, or paths of TOML files",
    )
    limits: Limits = Limits()
    origins: tuple[Origin, ...] = Field(
        default=(), description="whose pages may ask from a browser (CORS): https://shop.example, or * for all"
    )
    snapshots: SnapshotSettings = SnapshotSettings()
    proof: ProofSettings = ProofSettings()
    archive: DailyArchive | None = Field(
        default=None, description="move closed days to the archive, each day; default: only when asked to by command"
    )
    metrics: bool = Field(default=True, description="count for Prometheus what Ray's own metrics do not say")
    output_nodes: tuple[LoggedId, ...] = Field(
        default=(), max_length=100, description="output nodes that metrics keep apart; all others are `other`"
    )
    examination: Examination | None = Field(
        default=Examination(), description="make the last decisions again now and then, for metrics; null: never"
    )
    look_s: float = Field(default=60.0, gt=0, description="seconds between looks at the A/B tests that run")
    access_log: bool = Field(default=True, description="log a line for each request")
    traces: TraceSettings = TraceSettings()
    home: str | None = Field(default=None, description="folder of policies and log; default: RAYCOMMEND_HOME")

    @property
    def settings(self) -> Settings:
        """Where log, archive and policies lie. A home that is given is all of it, whatever the environment says."""
        return Settings(home=Path(self.home), store=None, archive=None) if self.home else Settings()

    @property
    def shares(self) -> dict[str, float]:
        """Shares of the traffic by policy, the champion's among them."""
        return self.policies | ({CHAMPION: self.champion.share} if self.champion else {})

    @model_validator(mode="after")
    def _something_is_served(self) -> "ServiceConfig":
        if not self.shares:
            raise ValueError("nothing would be served: name policies, or a champion")
        if self.champion and CHAMPION in self.policies:
            raise ValueError("a policy may not be called champion where the registry's is served")
        return self

    @field_validator("objectives")
    @classmethod
    def _default_is_the_reward(cls, objectives: dict[str, RewardSpec]) -> dict[str, RewardSpec]:
        if "default" in objectives:
            raise ValueError("the default objective is given by `reward`")
        return objectives


class ConsoleConfig(BaseModel):
    """The arguments of the console's application."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    application: str = Field(default="raycommend", description="the Serve application that it is the console of")
    images: tuple[Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.:\[\]-]+$")], ...] = Field(
        default=(), description="whose pictures of products are shown, beside the console's own: https://img.example"
    )
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = Field(
        default="GBP", description="of the items' prices, by its code of ISO 4217"
    )
    history_days: float = Field(
        default=90.0, gt=0, le=3_660, description="how far back the page Learning adds up the log"
    )
    model: str = Field(
        default="raycommend", description="the registered model whose champion and challengers are shown"
    )
    gate: str | None = Field(
        default=None, description="path of the TOML file that says what the gate asks, as `rl.promote --gate`"
    )
    nodes: tuple[str, ...] = Field(
        default=(), description="nodes against which files can be tried: paths of TOML files, beside the shipped ones"
    )
    session_hours: float = Field(default=12.0, gt=0, le=720, description="after which one logs in again")
    limits: Limits = Limits()
    access_log: bool = Field(default=True, description="log a line for each request")
    home: str | None = Field(default=None, description="folder of the log, as of the service: default RAYCOMMEND_HOME")

    @property
    def settings(self) -> Settings:
        """Where the log lies."""
        return Settings(home=Path(self.home), store=None, archive=None) if self.home else Settings()


class Secrets(EnvironmentSettings):
    """What must not stand in the configuration."""

    model_config = SettingsConfigDict(env_prefix="RAYCOMMEND_", frozen=True)

    api_key: SecretStr | None = Field(default=None, description="the key that requests must carry, if one is set")

    @property
    def key(self) -> str | None:
        """The key itself."""
        return self.api_key.get_secret_value() if self.api_key else None
