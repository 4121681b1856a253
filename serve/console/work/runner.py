"""`python -m serve.console.work.runner FOLDER`: run the command that a folder asks for, and keep how it has ended.

It waits for a process of the command's own, so that its status is kept whatever becomes of that. Both give way to who
answers requests.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from data.atomic import replace_file
from serve.console.work.runs import ERR, OUT, PROCESS, RUN, STATUS, Asked

_COURTESY = 10
"""Niceness, as of the learner's process."""


def main(folder: Path) -> None:
    """Run it."""
    asked = Asked.model_validate_json((folder / RUN).read_bytes())
    os.nice(_COURTESY)
    os.umask(0o077)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell runs in the background ignores it
    with (folder / OUT).open("wb") as out, (folder / ERR).open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", asked.module, *asked.arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which is the command's to follow
    with replace_file(folder / PROCESS) as new:
        new.write_text(str(os.getpgid(0)))
    status = process.wait()
    with replace_file(folder / STATUS) as new:
        new.write_text(str(status))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
