"""`make bench`: rounds over all contenders in turn, medians, ratios; JSON and a plot into docs/benchmarks.

    python -m keelage_dev.bench [--rounds N] [--seconds S] [--only NAME,NAME] [--scenarios START,START] [--out DIR]

Every contender is started first; then all but the one that is measured are stopped by SIGSTOP. The contender has one
core, provider and load share the other.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from keelage_dev.bench.contender import CONTENDERS, Api, Contender, sidecar_launch
from keelage_dev.bench.measure import (
    PROXY_CORE,
    Result,
    Running,
    Shot,
    fire,
    pace,
    providing,
    started,
    stream_kib,
    warmed,
)
from keelage_dev.bench.programs import BenchFailed, programs
from keelage_dev.bench.report import Measured, machine, table, write

ROOT = Path(__file__).resolve().parents[3]
DIRECT = "direct"


def shots(seconds: float) -> dict[str, tuple[Shot, dict[str, int]]]:
    """By name: what is fired and how the provider streams."""
    plain: dict[str, int] = {}
    paced = {"gap_us": 20_000}
    slow = {"gap_us": 200_000, "events": 20}
    return {
        "messages, 1 connection": (Shot(Api.MESSAGES, 1, seconds), plain),
        "messages, 64 connections": (Shot(Api.MESSAGES, 64, seconds), plain),
        "chat, 64 connections": (Shot(Api.CHAT, 64, seconds), plain),
        "messages, 64 streams": (Shot(Api.MESSAGES, 64, seconds, stream=True), plain),
        "chat, 64 streams": (Shot(Api.CHAT, 64, seconds, stream=True), plain),
        "messages, 1 stream of 50 events/s": (Shot(Api.MESSAGES, 1, max(seconds, 4.2), stream=True), paced),
        "messages, 64 streams of 50 events/s": (Shot(Api.MESSAGES, 64, max(seconds, 4.2), stream=True), paced),
        "messages, 1,000 streams of 5 events/s": (Shot(Api.MESSAGES, 1000, max(seconds, 4.5), stream=True), slow),
        "messages of 100 KB, 8 connections": (Shot(Api.MESSAGES, 8, seconds, size=100_000), plain),
        "messages of 1 MB, 4 connections": (Shot(Api.MESSAGES, 4, seconds, size=1_000_000), plain),
    }


def slug(label: str) -> str:
    """A scenario's name as one word: `messages-64-connections`."""
    return "-".join(re.findall(r"[a-z0-9]+", label.lower()))


def chosen_shots(starts: Sequence[str], seconds: float) -> dict[str, tuple[Shot, dict[str, int]]]:
    """Those whose slug begins with one of `starts`; all for none. Raises BenchFailed."""
    every = shots(seconds)
    found = {label: shot for label, shot in every.items() if not starts or slug(label).startswith(tuple(starts))}
    if not found:
        raise BenchFailed(f"--scenarios: {', '.join(starts)} begins none of {', '.join(map(slug, every))}")
    return found


def run(
    contenders: Sequence[Contender],
    scenarios: Mapping[str, tuple[Shot, Mapping[str, int]]],
    rounds: int,
    out: Path | None,
) -> int:
    ends = programs()
    results: defaultdict[str, defaultdict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    measured: dict[str, Measured] = {}
    per_stream_kib: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        provider = stack.enter_context(providing(ends))
        running: dict[str, Running] = {}
        for contender in contenders:
            try:
                up = started(contender, provider, stack)
            except BenchFailed as error:
                print(f"{contender.name} is left out: {error}", flush=True)
                continue
            up.signal(signal.SIGSTOP)
            running[contender.name] = up
            print(f"{contender.name} is up after {up.start_s:.2f} s", flush=True)
        for number in range(rounds):
            order = [DIRECT, *running]
            for name in order if number % 2 == 0 else reversed(order):
                up_now = running.get(name)
                if up_now is not None:
                    up_now.signal(signal.SIGCONT)
                    if number == 0:  # before the load has made its heap larger
                        per_stream_kib[name] = stream_kib(ends, provider, up_now)
                for label, (planned, streaming) in scenarios.items():
                    port = up_now.place.port if up_now is not None else provider
                    headers = up_now.contender.headers(planned.api, up_now.place) if up_now is not None else ()
                    pace(provider)
                    shot = warmed(ends, planned, port, headers)
                    if shot is None:
                        print(f"{name} does not answer: {label}", flush=True)
                        continue
                    pace(provider, **streaming)
                    results[label][name].append(fire(ends, shot, port, headers, up_now))
                if up_now is not None:
                    loaded_kib = up_now.rss_kib()
                    measured[name] = Measured(up_now.start_s, up_now.idle_kib, loaded_kib, per_stream_kib[name])
                    up_now.signal(signal.SIGSTOP)
                print(f"round {number + 1} of {rounds}: {name}", flush=True)
    print(table(results, measured))
    by_rules = decision_path() if out is not None else ""
    print(by_rules)
    if out is not None:
        write(out, results, measured, by_rules)
    return 0


def decision_path() -> str:
    """How the cost of deciding grows with rules and bodies, of the same process without sockets."""
    launch = sidecar_launch("keelage_dev.bench.path")
    done = subprocess.run(
        ["taskset", "-c", PROXY_CORE, *launch.command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **launch.env},
    )
    if done.returncode != 0:
        raise BenchFailed(f"keelage_dev.bench.path: {done.stderr.strip()[-800:]}")
    return f"the decision path without sockets\n{done.stdout}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.5)
    parser.add_argument("--only", default="", help="names, separated by commas")
    parser.add_argument("--scenarios", default="", help="beginnings of their names, such as messages-64-connections")
    parser.add_argument(
        "--out", type=Path, help="a folder; a part of the scenarios or contenders is written nowhere else"
    )
    given = parser.parse_args()
    names = [name for name in given.only.split(",") if name]
    starts = [start for start in given.scenarios.split(",") if start]
    chosen = [each for each in CONTENDERS if not names or each.name in names]
    print(machine(), flush=True)
    out = given.out if given.out or names or starts else ROOT / "docs" / "benchmarks"
    try:
        return run(chosen, chosen_shots(starts, given.seconds), given.rounds, out)
    except BenchFailed as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
