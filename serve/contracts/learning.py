"""What a replica says of itself: what it serves, whether it is well, and how learning goes."""

from typing import Literal

from pydantic import Field

from data.fields import UtcTime
from rl.online.state import FoldState
from serve.contracts.body import Body
from serve.contracts.decisions import PolicyVersion


class ServedPolicy(Body):
    """A policy that is served."""

    loop: str
    objective: str
    name: str
    version: str = Field(description="the trained artefact's digest, the fold's id, and the fold's step")
    since: UtcTime = Field(description="when this replica began to answer with the trained artefact")
    learned_through: int = Field(description="log position of the last feedback that it has seen")


class PoliciesResponse(Body):
    """What is served."""

    replica: str
    policies: list[ServedPolicy]


class Health(Body):
    """The replica can answer."""

    status: Literal["ok", "degraded"] = Field(
        default="ok", description="degraded: it answers, and something that is configured does not work"
    )
    reasons: list[str] = Field(default=[], description="what does not work; `GET /v1/learning` says why")
    replica: str = Field(description="which of the replicas this is")
    policies: list[PolicyVersion]
    learned_through: int


class Ready(Body):
    """The replica may be sent traffic."""

    status: Literal["ready"] = "ready"
    replica: str


class Fold(FoldState):
    """How a fold is, and how far behind the log; null where the log does not answer now."""

    decisions_behind: int | None = Field(description="rows of the loop's log of decisions that it has not read")
    feedback_behind: int | None = Field(description="the same of feedback")
    seconds_behind: float | None = Field(description="age of the oldest row that it has not read; 0: there is none")


class LearningResponse(Body):
    """How learning goes."""

    replica: str
    learner: Literal["answers", "silent"] = Field(description="silent: what follows is what was heard of it last")
    heard: UtcTime | None = Field(description="when that was; null: never")
    reports: dict[str, int] = Field(
        description="what became of the feedback that this replica was sent: stored, duplicate, contradictory (another "
        "report has its id), and how much of it was an orphan then"
    )
    folds: list[Fold] = Field(description="one for each loop and objective that is configured")
