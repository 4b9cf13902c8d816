"""The processes of the cluster's pods as this machine sees them, to be killed and stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SIDECAR = "keelage_sidecar"
OPERATOR = "keelage_operator"


def process_of(pod_uid: str, module: str = SIDECAR) -> int:
    """The process that runs that Python module in that pod. ProcessLookupError if there is none at this moment."""
    wanted = (pod_uid, pod_uid.replace("-", "_"))
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if words[1:3] == [b"-m", module.encode()]:
                group = (entry / "cgroup").read_text()
                if any(name in group for name in wanted):
                    return int(entry.name)
    raise ProcessLookupError(f"no process of {module} in pod {pod_uid}")


def kill(pod_uid: str, module: str = SIDECAR) -> None:
    """SIGKILL, as the kernel's OOM killer would."""
    os.kill(process_of(pod_uid, module), signal.SIGKILL)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """It hears no SIGTERM and says nothing; SIGKILL ends it all the same."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
