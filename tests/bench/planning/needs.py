"""From what a decision, a report and a trained step cost to what so many requests a second need: arithmetic alone."""

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

RATES = (1_000, 100_000, 1_000_000)
PRICES = Path(__file__).with_name("prices.toml")
_DAY_S, _MONTH_H = 86_400, 730


class Price(BaseModel):
    """What something costs, and who says so."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    price: float = Field(ge=0)
    what: str
    date: str
    source: str


class Assumed(BaseModel):
    """What is not measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    feedback_share: float = Field(ge=0, lt=1)
    utilisation: float = Field(gt=0, le=1)
    database_vcpus: int = Field(ge=1)
    store_days: float = Field(gt=0)
    archive_days: float = Field(ge=0)
    busiest_over_mean: float = Field(ge=1)


class Prices(BaseModel):
    """`prices.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    vcpu_hour: Price
    disk_gb_month: Price
    object_gb_month: Price
    assumed: Assumed

    @classmethod
    def read(cls) -> "Prices":
        """Read the file that ships."""
        return cls.model_validate(tomllib.loads(PRICES.read_text()))


class Costs(BaseModel):
    """What was measured, on a machine of two shared cores."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    replica_us: float = Field(description="CPU of the replica for a decision")
    replica_feedback_us: float = Field(description="the same for a report")
    ingress_us: float = Field(description="CPU of HAProxy for a request")
    writer_us: float = Field(description="CPU of the process that writes, for a row")
    database_rows_s: float = Field(description="rows a second that one PostgreSQL commits")
    learned_s: float = Field(description="decisions a second that one learner folds, a linear policy")
    described_s: float = Field(description="the same, a policy over features of any JSON")
    trained_step_us: float = Field(description="CPU of the learner's process for an environment step, updates included")
    store_bytes: float = Field(description="of a decision with its feedback and steps in the database")
    archive_bytes: float = Field(description="the same in the archive")

    @classmethod
    def of(cls, results: Mapping[str, Mapping[str, Any]]) -> "Costs":
        """Return them from the kept results of `capacity` and of the benches that measure the rest."""
        mine = results["capacity"]["peers"]
        return cls(
            **{name: mine[name] for name in ("replica_us", "replica_feedback_us", "ingress_us", "writer_us")},
            trained_step_us=results["capacity"]["figures"]["trained_step_us"],
            database_rows_s=results["store"]["peers"]["postgres_rate"],
            learned_s=results["waiting"]["peers"]["lin_ucb_per_s"],
            described_s=results["waiting"]["peers"]["described_per_s"],
            store_bytes=results["growth"]["peers"]["bytes_before"],
            archive_bytes=results["growth"]["figures"]["bytes"],
        )


class Needs(BaseModel):
    """What so many requests a second need; cores are those of the machine that was measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    rate: float
    replicas: int
    ingress_cores: float
    writer_cores: float
    databases: int
    learners: int
    described_learners: int
    store_gb: float
    archive_gb: float
    usd_month: float


def needs(costs: Costs, prices: Prices, rate: float) -> Needs:
    """Return what is needed for `rate` requests a second at the busiest hour.

    Money is for the cores of replicas, ingress, writers and learners (of linear policies), for databases with a standby
    each, and for what store and archive hold; not for load balancers, traffic, people.
    """
    assumed = prices.assumed
    decisions, reports = rate * (1 - assumed.feedback_share), rate * assumed.feedback_share
    room = assumed.utilisation * 1e6
    replicas = math.ceil((decisions * costs.replica_us + reports * costs.replica_feedback_us) / room)
    ingress, writers = rate * costs.ingress_us / room, rate * costs.writer_us / room
    databases = math.ceil(rate / costs.database_rows_s)
    learners, described = math.ceil(decisions / costs.learned_s), math.ceil(decisions / costs.described_s)
    a_day = decisions * _DAY_S / assumed.busiest_over_mean / 1e9
    store, archive = a_day * assumed.store_days * costs.store_bytes, a_day * assumed.archive_days * costs.archive_bytes
    vcpus = replicas + ingress + writers + learners + 2 * databases * assumed.database_vcpus
    money = (
        vcpus * prices.vcpu_hour.price * _MONTH_H
        + 2 * store * prices.disk_gb_month.price
        + archive * prices.object_gb_month.price
    )
    return Needs(
        rate=rate,
        replicas=replicas,
        ingress_cores=ingress,
        writer_cores=writers,
        databases=databases,
        learners=learners,
        described_learners=described,
        store_gb=store,
        archive_gb=archive,
        usd_month=money,
    )


def limits(costs: Costs, prices: Prices) -> dict[str, float]:
    """Return at how many requests a second each part that is there once is at its end, the first to break first."""
    share = prices.assumed.feedback_share
    found = {
        "the learner, policies over features of any JSON": costs.described_s / (1 - share),
        "the database": costs.database_rows_s,
        "the learner, linear policies": costs.learned_s / (1 - share),
        "one HAProxy on one core": 1e6 * prices.assumed.utilisation / costs.ingress_us,
    }
    return dict(sorted(found.items(), key=lambda part: part[1]))


def table(costs: Costs, prices: Prices) -> str:
    """Return what the rates of `RATES` need, and what breaks first, as Markdown."""
    found = [needs(costs, prices, rate) for rate in RATES]
    rows = {
        "replicas, a core each": [f"{one.replicas:,}" for one in found],
        "cores of HAProxy": [f"{one.ingress_cores:,.1f}" for one in found],
        "cores of the processes that write": [f"{one.writer_cores:,.1f}" for one in found],
        "databases, each with a standby": [f"{one.databases:,}" for one in found],
        "learners, linear policies": [f"{one.learners:,}" for one in found],
        "learners, features of any JSON": [f"{one.described_learners:,}" for one in found],
        "TB in the databases": [f"{one.store_gb / 1e3:,.1f}" for one in found],
        "TB in the archive": [f"{one.archive_gb / 1e3:,.1f}" for one in found],
        "USD a month": [f"{round(one.usd_month, -2):,.0f}" for one in found],
    }
    lines = [
        "| requests a second | " + " | ".join(f"{rate:,}" for rate in RATES) + " |",
        "|---|" + "---:|" * len(RATES),
    ]
    lines += [f"| {name} | {' | '.join(values)} |" for name, values in rows.items()]
    lines += ["", "| what is there once, and breaks first | requests a second |", "|---|---:|"]
    lines += [f"| {name} | {round(rate, -1):,.0f} |" for name, rate in limits(costs, prices).items()]
    return "\n".join(lines) + "\n"
