"""`python -m tests.bill`: all packages of .constraints.txt as a CycloneDX 1.6 bill of materials, on standard output.

Scope `required` is what the service and its training run with, `optional` what the head of a cluster needs on a cloud,
and `excluded` what tests and developers need: no image and no node has it. Who needs what is read from the packages as
they are installed. The same versions give the same bytes: there is no time in it.
"""

import json
import re
import sys
import tomllib
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from data.command import DONE, argument_parser, command

ROOT = Path(__file__).parents[1]
_SCOPES = {"runtime": ComponentScope.REQUIRED, "cloud": ComponentScope.OPTIONAL, "dev": ComponentScope.EXCLUDED}
"""By group of pyproject.toml, the strongest first."""


def pinned() -> dict[str, str]:
    """Return the versions by the packages' normalised names: those of the constraints, and the Makefile's torch."""
    (torch,) = re.findall(r"^TORCH \?= (torch==\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    lines = [*(ROOT / ".constraints.txt").read_text().splitlines(), torch]
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def dependencies(requirements: Iterable[str]) -> Mapping[str, set[str]]:
    """Return who needs whom, of all that is needed for some requirements, by what is installed here."""
    needed: dict[str, set[str]] = defaultdict(set)
    seen: set[tuple[str, str]] = set()
    left = [Requirement(text) for text in requirements]
    while left:
        requirement = left.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            wanted = [Requirement(text) for text in _requires(name)]
            wanted = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": extra})]
            needed[name] |= {canonicalize_name(one.name) for one in wanted}
            left += wanted
    return needed


def _requires(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []  # a group that is not installed here


def bill() -> str:
    """Return the bill, as JSON."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = {name: dependencies(project["dependency-groups"][name]) for name in _SCOPES}
    versions = pinned()
    root = Component(
        name=project["project"]["name"],
        version=project["project"]["version"],
        type=ComponentType.APPLICATION,
        bom_ref=project["project"]["name"],
    )
    components = {
        name: Component(
            name=name,
            version=version,
            type=ComponentType.LIBRARY,
            scope=next((scope for group, scope in _SCOPES.items() if name in groups[group]), ComponentScope.EXCLUDED),
            purl=(url := PackageURL("pypi", name=name, version=version)),
            bom_ref=url.to_string(),
        )
        for name, version in versions.items()
    }
    bom = Bom(components=components.values(), serial_number=uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(versions)))
    bom.metadata.component = root
    direct = {
        canonicalize_name(Requirement(text).name) for group in _SCOPES for text in project["dependency-groups"][group]
    }
    bom.register_dependency(root, [components[name] for name in sorted(direct)])
    for name, component in components.items():
        needs = set().union(*(groups[group].get(name, set()) for group in _SCOPES)) & components.keys()
        bom.register_dependency(component, [components[other] for other in sorted(needs)])
    made = json.loads(JsonV1Dot6(bom).output_as_string())
    del made["metadata"]["timestamp"]
    return json.dumps(made, indent=1)


@command("tests.bill")
def main(arguments: Sequence[str]) -> int:
    """Print the bill."""
    argument_parser("tests.bill", __doc__).parse_args(arguments)
    print(bill())
    return DONE


if __name__ == "__main__":
    sys.exit(main())
