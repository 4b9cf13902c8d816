"""The two C programs at the ends of the benchmark, built once per source."""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("KEELAGE_CACHE") or Path.home() / ".cache" / "keelage") / "bench"


class BenchFailed(Exception):
    """Something that the benchmark needs did not build, install or start; the text says what."""


@dataclass(frozen=True, slots=True)
class Programs:
    provider: Path
    load: Path


def programs() -> Programs:
    """Raises BenchFailed without a C compiler."""
    return Programs(_built("provider"), _built("load"))


def _built(name: str) -> Path:
    source = HERE / f"{name}.c"
    target = CACHE / f"{name}-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}"
    if target.exists():
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    scratch = target.with_suffix(".new")
    try:
        done = subprocess.run(
            ["gcc", "-O2", "-Wall", "-o", str(scratch), str(source)], capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise BenchFailed("gcc is needed: apt-get install gcc") from error
    if done.returncode != 0:
        raise BenchFailed(f"{source.name} does not build: {done.stderr.strip()}")
    scratch.replace(target)
    return target
