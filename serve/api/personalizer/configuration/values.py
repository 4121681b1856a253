"""What a loop's owner has set: rewards, exploration, learning mode, learning policy, where the model begins.

It lies in the store's settings, so it survives a restart and every replica and the learner read the same. What is set
counts from then on; nothing that was learned is lost, as the learner folds the log anew under it.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    PlainSerializer,
)
from pydantic.alias_generators import to_camel

from data.fields import Id
from data.log.current.settings_table import Setting, SettingsTable
from data.reward import RewardSpec
from serve.api.personalizer.configuration import durations
from serve.api.personalizer.errors import ERRORS

LOOP = "personalizer"
"""The loop, its one policy, and what the ids of its records begin with."""
REWARD = "reward"
"""The kind of feedback that a reward is."""
SERVICE, POLICY, MODEL, SIGNING = (f"{LOOP}.{name}" for name in ("service", "policy", "model", "signing"))
"""Names of settings."""

LearningMode: TypeAlias = Literal["Online", "Apprentice", "LoggingOnly"]
Aggregation: TypeAlias = Literal["earliest", "average", "median", "sum", "min", "max"]

_AGGREGATIONS: Mapping[Aggregation, Literal["first", "mean", "median", "sum", "min", "max"]] = {
    "earliest": "first",
    "average": "mean",
    "median": "median",
    "sum": "sum",
    "min": "min",
    "max": "max",
}
_WAITS = timedelta(seconds=5), timedelta(days=2)
_SHORTEST_OPTIMIZATION = timedelta(hours=1)


def _spelt(*names: str) -> BeforeValidator:
    """Take a name in any case, as the service that this stands in for did."""
    known = {name.lower(): name for name in names}
    return BeforeValidator(lambda given: known.get(given.lower(), given) if isinstance(given, str) else given)


def _with_zone(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)


Time = Annotated[datetime, AfterValidator(_with_zone)]
"""Without an offset it is in UTC, as the clients write it."""
Duration = Annotated[
    timedelta, BeforeValidator(durations.parse), PlainSerializer(durations.iso, return_type=str, when_used="json")
]


class ServiceConfiguration(BaseModel):
    """What PUT takes. What is not named here is ignored, as are settings of what is not done here."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )

    reward_wait_time: Annotated[Duration, Field(description="5 seconds to 2 days")]
    default_reward: Annotated[FiniteFloat, Field(ge=-1, le=1)]
    reward_aggregation: Annotated[Aggregation, _spelt(*get_args(Aggregation))]
    exploration_percentage: Annotated[FiniteFloat, Field(ge=0, le=1, description="share of uniform draws")]
    model_export_frequency: Annotated[
        Duration, Field(description="kept and shown; a model is used as soon as it has learned something")
    ]
    log_retention_days: Annotated[
        int, Field(ge=-1, le=36_500, description="kept and shown; logs are kept until they are deleted")
    ]
    model_retrain_days: Annotated[
        int, Field(ge=0, le=36_500, description="kept and shown; a model learns from the whole log")
    ] = 0
    is_auto_optimization_enabled: Annotated[
        bool,
        Field(description="other learning settings are evaluated, and the best answer if the gate lets them through"),
    ] = False
    auto_optimization_frequency: Annotated[Duration, Field(description="between two evaluations, and their length")] = (
        timedelta(days=7)
    )
    auto_optimization_start_date: Annotated[
        AwareDatetime | None,
        Field(description="the first evaluation is due a frequency after it; null: after the change"),
    ] = None
    is_inference_explainability_enabled: Annotated[
        bool, Field(description="answer a rank with what each feature adds to what is expected of each action")
    ] = False
    learning_mode: Annotated[LearningMode | None, _spelt(*get_args(LearningMode))] = None
    """None in a request: as it is."""

    @property
    def reward_spec(self) -> RewardSpec:
        """The same for the learner."""
        return RewardSpec(
            weights={REWARD: 1.0},
            wait_s=self.reward_wait_time.total_seconds(),
            default=self.default_reward,
            aggregation=_AGGREGATIONS[self.reward_aggregation],
        )


class PolicySettings(BaseModel):
    """A learning policy, in Vowpal Wabbit's words."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    name: Id
    arguments: Annotated[str, Field(min_length=1, max_length=4_096)]


class ModelOrigin(BaseModel):
    """Where the model begins."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    reset_at: AwareDatetime | None = None
    """Decisions made until then are not learned from. None: the whole log is."""
    imported: str | None = None
    """Digest of the kept artefact that was imported since."""


DEFAULT_SERVICE = ServiceConfiguration(
    reward_wait_time=timedelta(minutes=10),
    default_reward=0.0,
    reward_aggregation="earliest",
    exploration_percentage=0.2,
    model_export_frequency=timedelta(minutes=5),
    log_retention_days=90,
    learning_mode="Online",
)


@dataclass(frozen=True, slots=True)
class Configuration:
    """All that counts at one time."""

    service: ServiceConfiguration = DEFAULT_SERVICE
    policy: PolicySettings | None = None
    """None: the default policy."""
    origin: ModelOrigin = field(default_factory=ModelOrigin)
    seq: int = 0
    """Of the last setting that was read."""
    edited_at: datetime | None = None
    """When service or policy were changed last."""
    mode_since: datetime | None = None
    """When the learning mode became what it is; None: from the beginning."""
    origin_at: datetime | None = None
    """When the model was imported or reset last."""

    @property
    def mode(self) -> LearningMode:
        """The learning mode."""
        return self.service.learning_mode or "Online"

    @property
    def answering(self) -> str:
        """Digest of all that decides which policy answers: the same policy has the same."""
        policy = None if self.policy is None else self.policy.model_dump()
        content = [policy, self.origin.model_dump(mode="json"), self.service.exploration_percentage]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def read_configuration(settings: SettingsTable) -> Configuration:
    """Return what counts now."""
    seq = settings.last_change()
    service, policy, origin = DEFAULT_SERVICE, None, ModelOrigin()
    edited_at = mode_since = origin_at = None
    for setting in settings.history((SERVICE, POLICY, MODEL)):
        match setting:
            case Setting(name=n, value=value, time=time) if n == SERVICE:
                before, service, edited_at = service, ServiceConfiguration.model_validate(value), time
                mode_since = time if service.learning_mode != before.learning_mode else mode_since
            case Setting(name=n, value=value, time=time) if n == POLICY:
                policy, edited_at = PolicySettings.model_validate(value) if value else None, time
            case Setting(value=value, time=time):
                origin, origin_at = ModelOrigin.model_validate(value), time
    return Configuration(service, policy, origin, seq, edited_at, mode_since, origin_at)


def apply_changes(now: Configuration, given: ServiceConfiguration) -> ServiceConfiguration:
    """Return the service configuration that a request makes of the one that counts now.

    Raises:
        Refused: the service cannot be configured so.
    """
    given = given.model_copy(update={"learning_mode": given.learning_mode or now.mode})
    wait, (shortest, longest) = given.reward_wait_time, _WAITS
    if not shortest <= wait <= longest:
        message = f"rewardWaitTime must be between 5 seconds and 2 days, got {durations.iso(wait)}"
        raise ERRORS.refuse("InvalidServiceConfiguration", message, "rewardWaitTime")
    if given.model_export_frequency <= timedelta():
        message = "modelExportFrequency must be longer than nothing"
        raise ERRORS.refuse("InvalidServiceConfiguration", message, "modelExportFrequency")
    if given.is_auto_optimization_enabled and given.auto_optimization_frequency < _SHORTEST_OPTIMIZATION:
        message = "autoOptimizationFrequency must be at least an hour"
        raise ERRORS.refuse("InvalidServiceConfiguration", message, "autoOptimizationFrequency")
    days = given.log_retention_days
    if days != -1 and days < math.ceil(wait / timedelta(days=1) + 1):
        raise ERRORS.refuse("InvalidLogRetentionDays", where="logRetentionDays")
    if days != -1 and given.model_retrain_days > days:
        message = f"modelRetrainDays must be between 0 and logRetentionDays, got {given.model_retrain_days}"
        raise ERRORS.refuse("InvalidServiceConfiguration", message, "modelRetrainDays")
    if given.learning_mode != now.mode and given.reward_spec != now.service.reward_spec:
        raise ERRORS.refuse("InvalidLearningModeServiceConfiguration", where="learningMode")
    return given


def to_response(now: Configuration, time_spans: bool) -> dict[str, Any]:
    """Return the service configuration as it is answered; what is not done here is shown as off.

    Args:
        now: what counts.
        time_spans: write durations as .NET does.
    """
    write = durations.time_span if time_spans else durations.iso
    given = now.service.model_copy(update={"learning_mode": now.mode}).model_dump(by_alias=True, exclude_none=True)
    values = {name: write(value) if isinstance(value, timedelta) else value for name, value in given.items()}
    edited = now.edited_at.isoformat().replace("+00:00", "Z") if now.edited_at else "0001-01-01T00:00:00Z"
    return {
        **values,
        "lastConfigurationEditDate": edited,
        "logMirrorEnabled": False,
    }
