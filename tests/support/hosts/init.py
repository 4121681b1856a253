"""The first process of a host: makes its folders its own, starts its sshd, and waits for orphans until it is killed,
or whoever started it has ended.

Run by `tests.support.hosts.host` in namespaces of its own, by the path of this file: it imports nothing of ours.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path


def main(folder: Path, home: Path, shm: str, kept: list[Path]) -> None:
    """Set the host up, and never return.

    Args:
        folder: of the host's files on the machine that it runs on.
        home: of root, which becomes the host's own, as /tmp, /run and /dev/shm do.
        shm: size of /dev/shm.
        kept: paths of the machine that stay visible, if they lie in one of these.
    """
    Path("/proc/sys/kernel/hostname").write_text(folder.name)
    own = {home: folder / "home", Path("/tmp"): folder / "tmp"}
    for place, source in own.items():
        for path in kept:
            if path.is_relative_to(place):
                inner = source / path.relative_to(place)
                inner.mkdir(parents=True, exist_ok=True)
                _mount("--bind", path, inner)
    for name in ("hosts", "resolv.conf"):
        _mount("--bind", folder / name, Path("/etc") / name)
    _mount("-t", "tmpfs", "-o", f"size={shm}", "tmpfs", "/dev/shm")
    _mount("-t", "tmpfs", "tmpfs", "/run")
    Path("/run/sshd").mkdir()
    sshd = ["/usr/sbin/sshd", "-D", "-e", "-f", "/run/sshd_config"]
    Path("/run/sshd_config").write_text((folder / "sshd_config").read_text())
    Path("/run/key").write_text((folder / "key").read_text())
    Path("/run/key").chmod(0o600)
    log = (folder / "sshd.log").open("wb")
    # Bind mounts within a place are hidden with it, so they come along (--rbind); what lies in /tmp is gone at the end.
    _mount("--rbind", own[home], home)
    _mount("--rbind", own[Path("/tmp")], "/tmp")
    sys.stdin.readline()  # the network is there
    subprocess.Popen(sshd, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    print("up", flush=True)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        os.wait()


def _end_with_parent() -> None:
    """End, and with this process all of the host, when the test's process has ended, however it did."""
    sys.stdin.read()
    os._exit(1)


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], [Path(path) for path in sys.argv[4:]])
