"""The unit by which systemd runs Ray on machines of one's own, and the script that it runs."""

import configparser
import re
import subprocess
from typing import Any

import yaml

from tests.support.cluster_files import ROOT, edits

FOLDER = ROOT / "serve" / "deploy" / "systemd"
SCRIPT = FOLDER / "node.sh"


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(FOLDER / "raycommend@.service")
    return parser


def options(command: str) -> set[str]:
    """Return the options of `ray start`."""
    return set(re.findall(r"--[a-z-]+(?:=[^ \n]+)?", command))


def test_whatever_of_it_dies_all_is_ended_and_started_again_however_often() -> None:
    found = unit()
    assert found["Service"]["Restart"] == "always"
    assert found["Service"]["KillMode"] == "control-group"
    assert found["Unit"]["StartLimitIntervalSec"] == "0"
    assert "--block" in SCRIPT.read_text()


def test_it_runs_the_script_for_no_more_than_a_user() -> None:
    service = unit()["Service"]
    path, role = service["ExecStart"].split()
    assert path == f"/home/{service['User']}/raycommend/{SCRIPT.relative_to(ROOT)}"
    assert role == "%i"
    assert SCRIPT.stat().st_mode & 0o111
    assert not subprocess.run(["sh", "-n", SCRIPT], check=False).returncode


def test_it_starts_ray_as_the_page_does() -> None:
    head, worker = (options(line) for line in re.findall(r"ray start .*", SCRIPT.read_text())[::-1])
    page: dict[str, Any] = edits("local")
    workers = yaml.safe_load((ROOT / "cluster.yaml").read_text())["worker_start_ray_commands"]
    of_page = [
        options("".join(re.findall(r"ray start [^}]*", " ".join(part))))
        for part in (page["head_start_ray_commands"], workers)
    ]
    assert {name for name in head if "autoscaling" not in name} - {"--block"} == {
        name for name in of_page[0] if "autoscaling" not in name
    }
    assert {name.partition("=")[0] for name in worker} - {"--block"} == {name.partition("=")[0] for name in of_page[1]}
