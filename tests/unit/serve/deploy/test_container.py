"""The container definition is small, pinned, of a user without rights, and says when it is ill."""

import re

import pytest
import yaml

from tests.support.cluster_files import ROOT
from tests.support.containers import FILE, Step, steps

ALL = steps(FILE.read_text())
LAST_STAGE = ALL[max(number for number, step in enumerate(ALL) if step.name == "FROM") :]


def only(name: str, among: list[Step] = ALL) -> Step:
    (found,) = [step for step in among if step.name == name]
    return found


def test_the_base_is_pinned_to_the_python_of_the_nodes() -> None:
    assert {step.argument.split()[0] for step in ALL if step.name == "FROM"} == {"${PYTHON}"}
    base = next(step.argument for step in ALL if step.name == "ARG")
    version = re.fullmatch(r"PYTHON=python:(3\.11\.\d+)-slim-[a-z]+", base)
    assert version
    assert f"uv python install {version[1]}" in "\n".join(
        yaml.safe_load((ROOT / "cluster.yaml").read_text())["setup_commands"]
    )


def test_all_packages_are_the_pinned_ones() -> None:
    (install,) = [
        step.argument for step in ALL if step.name == "RUN" and "make" in step.argument.split("&&")[0].split()
    ]
    assert "make .venv/installed PARTS=runtime" in install
    torch = re.search(r"^TORCH \?= (torch==\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert torch
    assert f"ARG TORCH={torch[1]}+cpu" in FILE.read_text()
    assert f"--build-arg TORCH={torch[1]} " in FILE.read_text()
    assert not re.search(r"pip3? install|:latest|curl[^\n]*\|", FILE.read_text())


@pytest.mark.parametrize("step", [step for step in ALL if "apt-get install" in step.argument])
def test_debian_packages_leave_no_lists_and_bring_no_others(step: Step) -> None:
    assert step.argument.startswith("apt-get update ")
    assert "--yes --no-install-recommends" in step.argument
    assert "rm -rf /var/lib/apt/lists/*" in step.argument
    assert not re.search(r"\b(sudo|upgrade|dist-upgrade)\b", step.argument)


def test_what_builds_is_not_in_what_runs() -> None:
    assert "make" not in " ".join(step.argument for step in LAST_STAGE if step.name == "RUN").split()
    assert [step.argument for step in LAST_STAGE if "--from=" in step.argument] == [
        "--from=packages /opt/raycommend/.venv .venv"
    ]


def test_only_the_code_is_copied_from_the_checkout() -> None:
    copied = {name for step in ALL if step.name == "COPY" for name in step.argument.split()[:-1] if "--" not in name}
    copied -= {"/opt/raycommend/.venv"}
    assert copied == {"data", "rl", "serve", "Makefile", "pyproject.toml", ".constraints.txt"}
    assert all((ROOT / name).exists() for name in copied)
    ignored = (FILE.parent / "Containerfile.dockerignore").read_text().split()
    assert {name.removeprefix("!") for name in ignored if name.startswith("!")} == copied
    assert "*" in ignored


def test_it_runs_as_a_user_without_rights_in_an_absolute_folder() -> None:
    user = only("USER").argument
    assert user == "1000"
    assert LAST_STAGE.index(only("USER")) > max(number for number, step in enumerate(LAST_STAGE) if step.name == "RUN")
    assert f"--uid {user}" in " ".join(step.argument for step in LAST_STAGE if step.name == "RUN")
    assert all(step.argument.startswith("/") for step in ALL if step.name == "WORKDIR")
    pods = (FILE.parent / "kubernetes" / "service.yaml").read_text()
    assert set(re.findall(r"runAsUser: (\d+)", pods)) == {user}


def test_its_health_is_asked_for_at_the_port_that_it_serves() -> None:
    health = only("HEALTHCHECK").argument
    port = yaml.safe_load((FILE.parent / "service.yaml").read_text())["http_options"]["port"]
    assert f"http://127.0.0.1:{port}/-/healthz" in health
    assert only("EXPOSE").argument == str(port)
    assert "wget" in " ".join(step.argument for step in LAST_STAGE if step.name == "RUN").split()
    assert only("CMD").argument.startswith("[")  # without a shell between it and signals


def test_no_secret_is_in_it() -> None:
    assert not re.search(r"(?i)password|token|secret|api_key|aws_", FILE.read_text())
