"""The errors that the Personalizer API answers with: documented codes, their status, and what they say by default."""

from typing import Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from serve.contracts.errors import Kind, Table

Code: TypeAlias = Literal[
    "BadRequest",
    "InvalidRankRequest",
    "InvalidRewardRequest",
    "InvalidEventIdToActivate",
    "InvalidServiceConfiguration",
    "InvalidLearningModeServiceConfiguration",
    "InvalidLogRetentionDays",
    "InvalidPolicyConfiguration",
    "InvalidPolicyContract",
    "InvalidEvaluationContract",
    "DuplicateCustomPolicyNames",
    "MaximumEvaluationCustomPoliciesExceeded",
    "NoLogsExistInDateRange",
    "EvaluationAlreadyExists",
    "FeatureImportanceAlreadyExists",
    "InvalidModelImportFormat",
    "InvalidModelImportSignature",
    "PayloadSizeExceeded",
    "401",
    "InvalidApiAccess",
    "ResourceNotFound",
    "EvaluationNotFound",
    "FeatureImportanceNotFound",
    "LogsPropertiesNotFound",
    "RequestTimeout",
    "ModelRankingError",
    "EventIdConflict",
    "429",
    "InternalServerError",
    "OperationNotAllowed",
]
"""The gateway before Personalizer answered 401 and 429 with the status for a code. `EventIdConflict` is ours:
Personalizer took a second rank by the id of another."""


ERRORS: Final = Table[Code](
    {
        "BadRequest": Kind(400, "The request cannot be understood."),
        "InvalidRankRequest": Kind(400, "The rank request is not valid."),
        "InvalidRewardRequest": Kind(400, "The reward request is not valid."),
        "InvalidEventIdToActivate": Kind(400, "The event id to activate is not valid."),
        "InvalidServiceConfiguration": Kind(400, "The service configuration is not valid."),
        "InvalidLearningModeServiceConfiguration": Kind(
            400,
            "The learning mode cannot be changed together with defaultReward, rewardWaitTime or rewardAggregation: "
            "change the mode first, then the others with a second call.",
        ),
        "InvalidLogRetentionDays": Kind(
            400, "logRetentionDays must be -1, for ever, or at least rewardWaitTime plus 1 day, rounded up."
        ),
        "InvalidPolicyConfiguration": Kind(400, "The learning policy must contain --cb_explore_adf or --cats."),
        "InvalidPolicyContract": Kind(400, "A policy has a name and arguments."),
        "InvalidEvaluationContract": Kind(400, "An evaluation has a name, a startTime, and an endTime after it."),
        "DuplicateCustomPolicyNames": Kind(400, "Each policy of an evaluation needs a name of its own."),
        "MaximumEvaluationCustomPoliciesExceeded": Kind(400, "An evaluation has at most 10 policies."),
        "NoLogsExistInDateRange": Kind(400, "Nothing was ranked between startTime and endTime."),
        "EvaluationAlreadyExists": Kind(400, "There is an evaluation of this id."),
        "FeatureImportanceAlreadyExists": Kind(400, "There are feature importances of this id."),
        "InvalidModelImportFormat": Kind(400, "The file is no model that was exported here."),
        "InvalidModelImportSignature": Kind(400, "The model is not signed, or not by this service."),
        "PayloadSizeExceeded": Kind(400, "The body is larger than this service takes."),
        "401": Kind(401, "A valid subscription key is needed, in the header Ocp-Apim-Subscription-Key."),
        "InvalidApiAccess": Kind(403, "This operation is not open to this key or on this instance."),
        "ResourceNotFound": Kind(404, "There is no such resource."),
        "EvaluationNotFound": Kind(404, "There is no such evaluation."),
        "FeatureImportanceNotFound": Kind(404, "There is no such feature importance."),
        "LogsPropertiesNotFound": Kind(404, "No rank was logged yet."),
        "RequestTimeout": Kind(408, "The body did not arrive in time."),
        "ModelRankingError": Kind(409, "The actions cannot be ranked by the policy; check the learning settings."),
        "EventIdConflict": Kind(409, "EventId names another rank already."),
        "429": Kind(429, "Too many requests."),
        "InternalServerError": Kind(500, "The request failed on our side; the log says why."),
        "OperationNotAllowed": Kind(503, "This is not possible now; try again.", retry_after_s=1),
    }
)


class InnerError(BaseModel):
    """More exact than the error; not given here."""

    model_config = ConfigDict(frozen=True)
    code: str | None = None


class PersonalizerError(BaseModel):
    """An error."""

    model_config = ConfigDict(frozen=True)
    code: str
    message: str
    target: str | None = None
    """The field, as a dotted path."""
    details: list["PersonalizerError"] | None = None
    innerError: InnerError | None = None  # noqa: N815 - the wire's name


class PersonalizerErrorResponse(BaseModel):
    """The one shape of errors of the Personalizer API."""

    model_config = ConfigDict(frozen=True)
    error: PersonalizerError
