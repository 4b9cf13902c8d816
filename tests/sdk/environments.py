"""Virtual environments with one official SDK each, built once and then used without a network.

They live outside the repository, under a key made of the versions: a new version is a new folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["VERSIONS", "Version", "environments"]

TRIES = 5
PAUSE_S = 15.0
"""Between tries, times the number of those that failed: an index that is away comes back in minutes."""


@dataclass(frozen=True, slots=True)
class Version:
    """An SDK as its package is named, and the exact version."""

    sdk: str
    number: str

    @property
    def requirement(self) -> str:
        """As pip wants it; also the name of the environment."""
        return f"{self.sdk}=={self.number}"


VERSIONS = (
    Version("anthropic", "2.12.0"),
    Version("anthropic", "0.125.0"),
    Version("openai", "3.54.0"),
    Version("openai", "1.109.1"),
)
"""The newest major of each, which the lock file has too, and the last of those with httpx and old error classes."""


def environments(pause: Callable[[float], None] = time.sleep) -> dict[Version, Path]:
    """The Python interpreter of each version. Raises `subprocess.CalledProcessError` when pip gives up."""
    key = hashlib.sha256("\n".join(each.requirement for each in VERSIONS).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("KEELAGE_CACHE") or Path.home() / ".cache" / "keelage")
    root = cache / f"sdk-{key}-{sys.version_info.major}.{sys.version_info.minor}"
    root.mkdir(parents=True, exist_ok=True)
    with (root / "LOCK").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes may start at once
        for version in VERSIONS:
            _build(root, version, pause)
    return {version: _python(root, version) for version in VERSIONS}


def _python(root: Path, version: Version) -> Path:
    return root / version.requirement / "bin" / "python"


def _build(root: Path, version: Version, pause: Callable[[float], None]) -> None:
    done = root / f"{version.requirement}.COMPLETE"
    if done.exists():
        return
    house = root / "wheels" / version.requirement
    fetch = ["download", "--quiet", "--only-binary", ":all:", "--dest", str(house), version.requirement]
    for failed in range(TRIES):
        if _pip(fetch, last=failed + 1 == TRIES):
            break
        pause(PAUSE_S * (failed + 1))
    folder = root / version.requirement
    subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)], check=True)
    install = ["--python", str(_python(root, version)), "install", "--quiet", "--no-index", "--find-links", str(house)]
    _pip([*install, version.requirement], last=True)
    done.touch()


def _pip(arguments: Sequence[str], *, last: bool) -> bool:
    """Whether pip succeeded; its failure is raised at the last try."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, check=last).returncode == 0
