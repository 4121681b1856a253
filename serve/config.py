"""What is served and how: the arguments of the Serve application. Light: pydantic only."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from data.schema import PolicyName, RewardSpec

Share = Annotated[float, Field(ge=0)]


class Limits(BaseModel):
    """What one replica takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    streams: int = Field(default=32, ge=0, description="clients that follow the stream of one replica at a time")


class ServiceConfig(BaseModel):
    """The application's arguments; `serve/config.yaml` gives them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policies: dict[PolicyName, Share] = Field(
        default={"linear_thompson": 1.0},
        min_length=1,
        description="shares of the traffic by policy; each was trained into policies/NAME of the home",
    )
    reward: RewardSpec = Field(default=RewardSpec(), description="what feedback is worth: the default objective")
    objectives: dict[PolicyName, RewardSpec] = Field(
        default={}, description="others that a request may ask for by name; each policy learns for each of them"
    )
    learn_from: Literal["own", "all"] = Field(
        default="own", description="each policy learns from its own decisions only, or from those of all"
    )
    limits: Limits = Limits()
    nodes: tuple[str, ...] = Field(default=("online_retail",), description="nodes whose events are taken over HTTP")
    home: str | None = Field(default=None, description="folder of policies and log; default: RAYCOMMEND_HOME")

    @field_validator("objectives")
    @classmethod
    def _default_is_the_reward(cls, objectives: dict[str, RewardSpec]) -> dict[str, RewardSpec]:
        if "default" in objectives:
            raise ValueError("the default objective is given by `reward`")
        return objectives


class Secrets(BaseSettings):
    """What must not stand in a file, from the environment."""

    model_config = SettingsConfigDict(env_prefix="RAYCOMMEND_", frozen=True)

    api_key: SecretStr | None = Field(default=None, description="the key that requests must carry, if one is set")
