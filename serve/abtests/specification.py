"""An A/B test as data: what a person writes, who is compared with whom, and what is learned from it."""

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from data.fields import Id, PolicyName, UtcTime
from data.schema import LOOP_V1
from rl.evaluation.abtests.specification import ReadSpec

REGISTRY, SHELF = "registry:", "shelf:"
"""What the name of a policy begins with that is a version or an alias of the registry, or the digest of one that was
served before."""
_ELSEWHERE = rf"^({REGISTRY}[A-Za-z0-9][A-Za-z0-9_-]*|{SHELF}[0-9a-f]{{8}})$"

Kind: TypeAlias = Literal["split", "shadow", "apprentice", "interleaving"]
"""split: each user is answered by one variant. shadow: the control answers, and what the others would have shown is
logged. apprentice: the same, and the others learn to show what the control shows. interleaving: two variants fill each
slate together."""
UNSEEN: frozenset[Kind] = frozenset({"shadow", "apprentice"})
"""Kinds in which nobody is shown anything that the control has not chosen: there are no exposures."""

Name: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=48)]


class Variant(BaseModel):
    """One way of answering."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    policy: PolicyName | Annotated[str, Field(pattern=_ELSEWHERE, max_length=64)] = Field(
        description="one that the service serves by its configuration, `registry:` with a version or an alias, or "
        "`shelf:` with the digest of one that was served before"
    )
    share: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="of the users; default: the variants share them evenly. Of a variant that nobody is shown: of the "
        "users for whom it decides; default: all",
    )
    mode: Literal["explore", "exploit"] | None = Field(
        default=None,
        description="default: as the request says; of one that is in the shadow: explore, of an apprentice: exploit",
    )
    follows: PolicyName | None = Field(
        default=None,
        description="a policy of the configuration from whose decisions it learns too, those before the test among "
        "them: for one of the registry or the shelf that is to go on as if it had stayed",
    )

    @property
    def configured(self) -> bool:
        """Whether its policy is one of the configuration."""
        return not self.policy.startswith((REGISTRY, SHELF))


class ABTest(BaseModel):
    """What is compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Name
    kind: Kind = "split"
    loop: Literal["v1"] = Field(
        default=LOOP_V1, description="whose requests; Personalizer's have no users to stay with"
    )
    objective: Id = Field(default="default", description="whose requests, and the rewards that are compared")
    variants: dict[Name, Variant] = Field(min_length=2, max_length=10)
    control: Name = Field(description="the variant that the others are compared with, and that gets what they lose")
    training: Literal["isolated", "shared"] = Field(
        default="isolated",
        description="isolated: a variant's policy learns from its own exposures only; shared: from those of all",
    )
    salt: str = Field(default="", max_length=64, description="of the hash that assigns users; default: the name")
    read: ReadSpec = Field(
        default=ReadSpec(), description="how its results are read, and when a variant is switched off"
    )
    starts: UtcTime | None = Field(default=None, description="default: at once")
    ends: UtcTime | None = Field(default=None, description="default: when it is stopped")

    @property
    def policies(self) -> dict[str, str]:
        """The policies by variant, as folds call them and decisions name them.

        One of the registry or the shelf learns under a name of its own, so that nothing but this test has taught it.
        """
        return {
            name: variant.policy if variant.configured else f"{self.name}.{name}"
            for name, variant in self.variants.items()
        }

    @property
    def shares(self) -> dict[str, float]:
        """The shares of the users at first, by variant."""
        given = {name: variant.share for name, variant in self.variants.items()}
        if self.kind in UNSEEN:
            return {name: 1.0 if share is None else share for name, share in given.items() if name != self.control}
        even = 1.0 / len(given)
        return {name: even if share is None else share for name, share in given.items()}

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.control not in self.variants:
            raise ValueError(f"control must be one of the variants {', '.join(self.variants)}, got {self.control!r}")
        check_shares(self, self.shares)
        given = [variant.share for variant in self.variants.values()]
        if (
            self.kind not in UNSEEN
            and any(share is None for share in given)
            and any(share is not None for share in given)
        ):
            raise ValueError("give the share of every variant, or of none: then they share the users evenly")
        if self.starts and self.ends and self.ends <= self.starts:
            raise ValueError(f"it must end after it starts, got {self.starts.isoformat()} to {self.ends.isoformat()}")
        policies = self.policies
        if self.kind == "interleaving":
            if len(policies) != 2 or len({*policies.values()}) != 2:
                raise ValueError("interleaving is of two variants with two policies")
            if len({variant.mode for variant in self.variants.values()}) != 1:
                raise ValueError("both variants of an interleaved slate have one mode")
        others = [variant for name, variant in self.variants.items() if name != self.control]
        if any(variant.follows and (variant.configured or self.kind != "split") for variant in self.variants.values()):
            raise ValueError("only a variant of the registry or the shelf, in a split, follows another policy")
        if self.kind == "apprentice" and any(variant.configured for variant in others):
            # It learns the whole log anew, to imitate: one that answers users must not.
            raise ValueError("an apprentice is a version of the registry: registry:VERSION or registry:ALIAS")
        if self.kind == "shadow" and self.training == "shared" and any(one.configured for one in others):
            raise ValueError(
                "a variant in the shadow that learns from the control's decisions is a version of the registry"
            )
        if self.kind == "split" and self.training == "isolated" and len({*policies.values()}) < len(policies):
            raise ValueError(
                "variants of one policy learn together: say training = shared, or name versions of the registry"
            )
        return self


def check_shares(test: ABTest, shares: dict[str, float]) -> None:
    """Check shares of a test's users.

    Raises:
        ValueError: they are of other variants, or not between 0 and 1, or sum to more than 1 or to nothing.
    """
    wanted = {name for name in test.variants if test.kind not in UNSEEN or name != test.control}
    if shares.keys() != wanted:
        raise ValueError(
            f"expected shares of {', '.join(sorted(wanted))}, got of {', '.join(sorted(shares)) or 'none'}"
        )
    if wrong := {name: share for name, share in shares.items() if not 0.0 <= share <= 1.0}:
        raise ValueError(f"a share is from 0 to 1, got {wrong}")
    total = sum(shares.values())
    if test.kind not in UNSEEN and not 0.0 < total <= 1.0 + 1e-9:
        raise ValueError(f"the shares of all variants sum to more than 0 and at most 1, got {total:g}")
