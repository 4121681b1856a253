"""The steps `evaluate`, `gate` and `promote`: the challenger beside the champion, the verdict, and what follows."""

from typing import Any

from threadpoolctl import threadpool_limits

from rl.continuous.learning import POLICY
from rl.continuous.work import Work
from rl.gate.files import argue_again
from rl.gate.specification import GateSpec
from rl.promotions import promote as move_alias
from rl.registry import CHAMPION, register, resolve, resolve_alias
from rl.trials import find, summarise, try_challengers

CHALLENGER = "challenger"


def evaluate(work: Work) -> dict[str, Any]:
    """Register the challenger, and compare it with the champion on the decisions that neither has learned."""
    spec, settings = work.spec, work.settings
    version = register(settings, work.folder("train") / POLICY, CHALLENGER, spec.model)
    compared = work.run.steps["ingest"]["champion"]
    result: dict[str, Any] = {"version": version.version, "digest": version.digest}
    if version.digest == compared["digest"]:
        return result | {"same": True}
    champion = find(settings, str(compared["version"]), spec.model)
    challenger = find(settings, str(version.version), spec.model)
    asked: GateSpec = spec.gate.model_copy(update={"reward": work.reward})
    out = work.folder("evaluate")
    work.say(f"version {version.version} beside version {compared['version']}")
    with threadpool_limits(spec.training.threads, "blas"):
        (tried,) = try_challengers(settings, champion, [challenger], asked, out=out, model=spec.model, conform=True)
    assert tried.trial is not None, "it was tracked"
    found = summarise(tried)
    work.say(found["verdict"])
    for name in ("difference", "lower_bound"):
        number = found.get(name)
        if isinstance(number, dict):
            number = number["value"]
        if number is not None:
            work.tracker.log(0, {f"gate.{name}": float(number)})
    return result | {"trial": tried.trial.run_id, "report": tried.folder.name, "decisions": found["decisions"]}


def judge(work: Work) -> dict[str, Any]:
    """Derive the verdict from the evidence that was stored, whatever the report says of itself."""
    found = work.run.steps["evaluate"]
    if found.get("same"):
        return {"promote": False, "sentence": "Not promoted: nothing was learned that the champion does not know."}
    verdict = argue_again(work.folder("evaluate") / found["report"])
    return {"promote": verdict.promote, "sentence": verdict.sentence}


def promote(work: Work) -> dict[str, Any]:
    """Let the alias of the champion move, if the gate lets it."""
    found, verdict = work.run.steps["evaluate"], work.run.steps["gate"]
    if not verdict["promote"]:
        return {"promoted": False, "why": verdict["sentence"]}
    compared = work.run.steps["ingest"]["champion"]["version"]
    now = resolve_alias(work.settings, work.spec.model, CHAMPION)
    if now is not None and now.version == found["version"]:
        return {"promoted": True, "why": verdict["sentence"]}  # by a process that was killed right after it
    if now is None or now.version != compared:
        is_now = "none" if now is None else f"version {now.version}"
        return {"promoted": False, "why": f"the champion is {is_now} by now, it was compared with version {compared}"}
    version = resolve(work.settings, str(found["version"]), work.spec.model)
    champion = resolve(work.settings, str(compared), work.spec.model)
    move_alias(work.settings, version, champion, found["trial"])
    work.say(f"version {version.version} is the {CHAMPION}")
    return {"promoted": True, "why": verdict["sentence"]}
