"""`python -m tests.audit`: known vulnerabilities of all pinned versions, by pip-audit, which asks PyPI for each.

Exit status: 0 none is known; 1 some are, and printed; 2 it has not run, as PyPI's advisories cannot be reached here.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from data.command import AMISS, DONE, REFUSED, argument_parser, command, complain
from tests.bill import pinned

_TIMEOUT_S = 15


def audit(*options: str) -> list[dict[str, Any]] | str:
    """Return what is known of the versions that have vulnerabilities, or why nobody could be asked."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"{name}=={version}\n" for name, version in pinned().items())
        file.flush()
        # Without pip: all versions are there, nothing is to be resolved, and nothing is installed.
        given = [
            "--requirement",
            file.name,
            "--no-deps",
            "--disable-pip",
            "--format",
            "json",
            "--progress-spinner",
            "off",
        ]
        command = [sys.executable, "-m", "pip_audit", *given, "--timeout", str(_TIMEOUT_S), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    if unknown := pinned().keys() - {one["name"] for one in found if "vulns" in one}:
        some = ", ".join(sorted(unknown)[:3])
        return f"who answers for PyPI says nothing of {len(unknown)} of {len(pinned())} packages ({some} ...)"
    return [one for one in found if one["vulns"]]


@command("tests.audit")
def main(arguments: Sequence[str]) -> int:
    """Print a line for each vulnerability."""
    argument_parser("tests.audit", __doc__).parse_args(arguments)
    found = audit()
    if isinstance(found, str):
        complain("tests.audit", f"pip-audit has not run to its end, so nothing is known: {found}")
        return REFUSED
    for package in found:
        for fault in package["vulns"]:
            fixed = ", ".join(fault["fix_versions"]) or "no version yet"
            names = " ".join([fault["id"], *fault["aliases"]])
            print(f"{package['name']} {package['version']}: {names}; fixed in {fixed}")
    print(f"{len(pinned())} packages, {len(found)} with known vulnerabilities")
    return AMISS if found else DONE


if __name__ == "__main__":
    sys.exit(main())
