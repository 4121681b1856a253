"""serve/PIPELINE.md, walked: its commands as they stand, but for the service, which gets a port of its own."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from data.log.bulk import count_orphans
from data.log.store import Store
from data.settings import Settings
from rl.simulators.bandits.ratings import Ratings, generated_ratings
from serve.config import ServiceConfig
from tests.support.replaced_pipeline import join_by_row, play
from tests.support.services import Running, service, wait_for

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "serve/PIPELINE.md").read_text()
BLOCKS = [block.strip().splitlines() for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)]
VISITS = 1_500


def run(line: str, environment: Mapping[str, str], instead: Mapping[str, str], status: int = 0) -> str:
    """Run a line of the page, with some of its words replaced; returns what it says, or where it fails, why."""
    words = [instead.get(word, word) for word in shlex.split(line)]
    assert words[0] == "python"
    done = subprocess.run(
        [sys.executable, *words[1:]], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == status, f"{line}\n{done.stderr[-3_000:]}"
    return done.stderr if status else done.stdout


def last_line(output: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


@pytest.mark.slow
def test_the_page_from_ratings_to_a_policy_that_learns_in_service(tmp_path: Path) -> None:
    before, after, trigger, _ = BLOCKS
    home, file = tmp_path / "var", tmp_path / "ratings.csv"
    generated_ratings().assign(timestamp=964_982_703).to_csv(file, index=False)
    first = home / "generated.dsjson"
    own = {"RAYCOMMEND_HOME": str(home), "PYTHONPATH": str(ROOT), "RAYCOMMEND_API_KEY": "right"}
    words = {"ratings.csv": str(file), "var/generated.dsjson": str(first)}
    words["var/policies/movielens"] = str(home / "policies" / "movielens")
    commands = [line for line in before if line.startswith("python")]
    assert before[len(commands) :] == ['eval "$(python -m serve.environment)"', "serve run serve/movielens.yaml"]
    ingested, generated, imported, trained, registered = (last_line(run(line, own, words)) for line in commands)
    assert ingested["events"] == len(generated_ratings())
    assert generated["visits"] == generated["reports"] == 24
    assert (imported["decisions"], imported["feedback"], imported["orphans"]) == (24, 24, 0)
    assert trained["outcomes"] == 24
    assert trained["mean_reward"] == pytest.approx(generated["reward"], abs=1e-5)
    assert registered["version"] == 1
    [application] = yaml.safe_load((ROOT / "serve/movielens.yaml").read_text())["applications"]
    config = ServiceConfig(**application["args"], home=str(home))
    with service(config, replicas=2) as running:
        running.wait()
        words["http://127.0.0.1:8000"] = running.url
        words["8000"], words["var/rewards.png"] = str(VISITS), str(home / "rewards.png")
        asked, audited = after
        told = last_line(run(asked, own, words))
        learned(running, told)
        assert_closed(home, told)
        made_again = last_line(run(audited, own, words))
        assert made_again["mismatches"] == 0
        assert made_again["decisions"] >= VISITS
        said = run(trigger[0], own, words, status=1)  # no window has closed yet: there is nothing new to train from
        assert "have closed that the champion has not learned" in said
    assert (home / "rewards.png").read_bytes().startswith(b"\x89PNG")


def learned(running: Running, told: Mapping[str, Any]) -> None:
    """Wait until all replicas have learned all that was reported."""
    assert told["failures"] == {}
    assert told["reports"] == {"late": 0, "lost": 0, "made": VISITS, "sent": VISITS, "stored": VISITS, "twice": 0}
    wait_for(lambda: running.learned_by_all(24 + told["reports"]["stored"]), 30)


def assert_closed(home: Path, told: Mapping[str, Any]) -> None:
    """Assert that the loop learns what the replaced pipeline cannot, of the same users and movies."""
    ceilings = Ratings(1).ceilings()
    assert told["ceilings"] == pytest.approx(ceilings, abs=1e-6)
    wrong = [worth.earned for worth in play(join_by_row, of_others=True, interactions=VISITS, seed=0)]
    uncalled = [
        worth.earned for worth in play(join_by_row, of_others=True, interactions=VISITS, seed=0, asked_until=24)
    ]
    [*_, last] = told["reward_over_time"]
    assert last["reward"] > 0.9 * ceilings["oracle"]  # ours, which was ahead of both from the 24 interactions on
    assert told["share_of_best"] > 0.85
    assert np.mean(wrong[-500:]) < ceilings["fixed"] + 0.1
    assert np.mean(uncalled[-500:]) < ceilings["fixed"] + 0.1
    with closing(Store.open(Settings(home=home, store=None, archive=None).store_url)) as store:
        assert count_orphans(store, "v1") == 0
        assert len(store.decisions(loop="v1")) == VISITS + 24
