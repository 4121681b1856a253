"""Kind `retail`: a policy of the service, trained against a simulated market or from the log."""

import logging
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic_settings import SettingsConfigDict
from rich.console import Console
from rich.progress import Progress
from threadpoolctl import threadpool_limits

from data.attribution.join import GRACE
from data.errors import DataError
from data.features.customers import Encoder, EncoderConfig, fit
from data.fields import PolicyName
from data.log.store import Store
from data.log.unreadable import Fault, describe_error
from data.reward import RewardSpec
from data.settings import Settings
from rl.artefacts.artefact import Artefact, save
from rl.config import TrainingConfig
from rl.encoders.base import VisitEncoder
from rl.encoders.context import ContextEncoder
from rl.encoders.customers import CustomerEncoder
from rl.encoders.json_features import FeaturesEncoder
from rl.experience.events import generated_events, logged_outcomes, purchase_events
from rl.online.observe import observe, select_learnable
from rl.policies import (
    CrossedConfig,
    LinearThompsonConfig,
    OnlinePolicyConfig,
    build,
)
from rl.policy.errors import PolicyError
from rl.policy.interface import Policy
from rl.simulators.market.fitted import FittedMarketConfig, fit_market
from rl.simulators.market.generated import GeneratedMarketConfig, generate_market
from rl.simulators.market.market import Market
from rl.simulators.market.retail import RetailEnv
from rl.simulators.play import interact
from rl.training.run.tracking import Tracker

MarketConfig = Annotated[GeneratedMarketConfig | FittedMarketConfig, Field(discriminator="kind")]

log = logging.getLogger("raycommend.train")

_WINDOW = 1_000  # decisions that one point of the learning curve is the mean of


class ContextConfig(BaseModel):
    """What a visit is known by in place of past purchases: numbers of the request's context."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    numbers: Annotated[tuple[str, ...], Field(min_length=1, description="their names")]
    items: Annotated[tuple[str, ...], Field(min_length=1, description="ids of the items that may be shown")]


class RetailExperiment(TrainingConfig):
    """Train a policy of the service, against a simulated market or from the log, and save it as an artefact."""

    model_config = SettingsConfigDict(cli_prog_name="python -m rl.train")

    kind: Literal["retail"] = "retail"
    name: PolicyName = Field(default="linear_thompson", description="of the policy; the artefact's folder is called so")
    policy: OnlinePolicyConfig = LinearThompsonConfig()
    encoder: EncoderConfig = EncoderConfig()
    context: ContextConfig | None = Field(
        default=None, description="know a visit by numbers of its context, and not by the customer's past purchases"
    )
    reward: RewardSpec = RewardSpec()
    source: Literal["simulator", "log", "nothing"] = Field(
        default="simulator",
        description="learn from simulated visits, from the logged decisions and their feedback, or only in service",
    )
    market: MarketConfig = Field(
        default=FittedMarketConfig(), description="the simulator's customers: fitted to the node's events, or generated"
    )
    node: str = Field(
        default="online_retail",
        description="the node whose events customers are known by: a shipped one, or the path of a TOML file",
    )
    before: AwareDatetime | None = Field(default=None, description="use only events before this time")
    decisions: int = Field(default=20_000, ge=1, description="simulated visits")
    batch: int = Field(default=20, ge=1, description="visits answered between two updates")
    slate_size: int = Field(default=10, ge=1, description="items of a slate")
    seed: int = Field(default=0, ge=0)


def train(config: RetailExperiment, settings: Settings, progress: Progress) -> tuple[Artefact, dict[str, Any]]:
    """Train and save.

    Returns:
        The saved artefact, and a report: the learning curve (mean expected reward of a slate by 1,000 decisions) with
        the market's ceilings, or the number of outcomes folded from the log.

    Raises:
        DataError: there is nothing to train from.
        PolicyError: the slate is longer than the catalogue.
    """
    if isinstance(config.policy, CrossedConfig):
        return _train_on_requests(config, FeaturesEncoder(()), settings)
    if config.context is not None:
        return _train_on_requests(config, ContextEncoder(config.context.items, config.context.numbers), settings)
    rng = np.random.default_rng(config.seed)
    market, events = _experience(config, settings, rng)
    encoder = CustomerEncoder.of(fit(events, config.encoder))
    policy = build(config.policy, encoder.n_features, encoder.n_states, encoder.popularity)
    until, report = None, dict[str, Any]()
    if config.source == "log":
        until, report = _from_log(policy, encoder, config.reward, settings)
    elif config.source == "simulator":
        report = _from_simulator(policy, encoder, market or _fit_market(config, events, encoder), config, rng, progress)
    trained_on = {
        "source": config.source,
        "seed": config.seed,
        "events": events.num_rows,
        "last_event": pc.max(events["time"]).as_py().isoformat(),
        "encoder": encoder.version,
        "specification": config.reward.version,
    }
    return _save(config, settings, policy, encoder, trained_on, until), report


def _train_on_requests(
    config: RetailExperiment, encoder: VisitEncoder, settings: Settings
) -> tuple[Artefact, dict[str, Any]]:
    """Make a policy that learns from what is said of visits and items: simulated customers say nothing."""
    if config.source == "simulator":
        what = "a described policy" if isinstance(config.policy, CrossedConfig) else "a policy with a context"
        raise DataError(
            f"{what} learns from what requests and the catalogue say, which a simulator does not: give "
            "--source nothing, and it learns in service, or --source log"
        )
    policy = build(config.policy, encoder.n_features, encoder.n_states, encoder.popularity)
    until, report = None, dict[str, Any]()
    if config.source == "log":
        until, report = _from_log(policy, encoder, config.reward, settings)
    trained_on: dict[str, str | int | float] = {
        "source": config.source,
        "encoder": encoder.version,
        "specification": config.reward.version,
    }
    return _save(config, settings, policy, encoder, trained_on, until), report


def _save(
    config: RetailExperiment,
    settings: Settings,
    policy: Policy,
    encoder: VisitEncoder,
    trained_on: dict[str, str | int | float],
    until: datetime | None,
) -> Artefact:
    artefact = Artefact(
        name=config.name,
        config=config.policy,
        policy=policy,
        encoder=encoder,
        reward=config.reward,
        trained_on=trained_on,
        learned_until=until,
    )
    return save(artefact, config.folder(settings))


def _experience(
    config: RetailExperiment, settings: Settings, rng: np.random.Generator
) -> tuple[Market | None, pa.Table]:
    """Return the past purchases, and the market when it is a generated one."""
    if config.source == "simulator" and isinstance(config.market, GeneratedMarketConfig):
        market = generate_market(config.market, rng)
        return market, generated_events(market, config.market.invoices, rng)
    return None, purchase_events(settings, config.node, before=config.before)


def _fit_market(config: RetailExperiment, events: pa.Table, encoder: Encoder) -> Market:
    assert isinstance(config.market, FittedMarketConfig)
    return fit_market(events, encoder, config.market)


def _from_log(
    policy: Policy, encoder: VisitEncoder, spec: RewardSpec, settings: Settings
) -> tuple[datetime, dict[str, Any]]:
    """Fold every decision whose window has closed, whichever policy made it; returns until when that is."""
    until = datetime.now(UTC) - timedelta(seconds=spec.wait_s) - GRACE  # the service learns what is later
    faults, unlearnable = list[Fault](), 0
    rewards = list[float]()
    for some in logged_outcomes(Store.open(settings.store_url, make=False), spec, until, faults):
        outcomes, failed = select_learnable(some, encoder)
        for outcome, error in failed:
            log.warning("decision %s is set aside: %s", outcome.decision.decision_id, describe_error(error))
        unlearnable += len(failed)
        if outcomes:
            policy.update(observe(outcomes, encoder))
            rewards += [outcome.reward for outcome in outcomes]
    set_aside = len(faults) + unlearnable
    if not rewards:
        raise DataError(f"none of the log's decisions can be learned: all {set_aside} are set aside, see the warnings")
    return until, {"outcomes": len(rewards), "set_aside": set_aside, "mean_reward": float(np.mean(rewards))}


def _from_simulator(
    policy: Policy,
    encoder: Encoder,
    market: Market,
    config: RetailExperiment,
    rng: np.random.Generator,
    progress: Progress,
) -> dict[str, Any]:
    """Let the policy answer simulated visits and learn from them."""
    if config.slate_size > len(market.items):
        raise PolicyError(f"slate_size is {config.slate_size}, the catalogue has only {len(market.items)} items")
    env = RetailEnv(market, encoder, num_envs=config.batch, k=config.slate_size, spec=config.reward)
    steps = -(-config.decisions // config.batch)
    task = progress.add_task(f"train {config.name}", total=steps * config.batch)
    expected, start = [], perf_counter()
    for _, of_step in interact(policy, env, steps, config.seed, rng):
        expected.append(of_step)
        progress.advance(task, config.batch)
    seconds = perf_counter() - start
    curve = np.concatenate(expected)
    means = [float(curve[at : at + _WINDOW].mean()) for at in range(0, len(curve), _WINDOW)]
    return {"curve": means, "window": _WINDOW, **market.ceilings(config.slate_size, config.reward), "seconds": seconds}


def run(experiment: RetailExperiment, settings: Settings) -> dict[str, Any]:
    """Train, and track the training; see `rl.training.kinds.registry.Kind.run`."""
    # One thread for linear algebra: on matrices this small more only wait for each other, and add in another order.
    with Progress(console=Console(stderr=True)) as progress, threadpool_limits(1, "blas"):
        artefact, report = train(experiment, settings, progress)
    report = {"name": artefact.name, "digest": artefact.digest, **artefact.trained_on, **report}
    if experiment.track:
        _track(experiment, settings, report)
    return report


def _track(experiment: RetailExperiment, settings: Settings, report: dict[str, Any]) -> None:
    """Log what was trained, in one go: these trainings take seconds."""
    with Tracker(settings, experiment.name, experiment.resolved()) as tracker:
        for number, mean in enumerate(report.get("curve", []), start=1):
            tracker.log(min(number * _WINDOW, experiment.decisions), {"return": mean})
        tracker.files(experiment.folder(settings), "policy")
