"""`make soak REQUESTS=200000`: that many calls through one sidecar; its memory must stay flat, its counters be exact.

Plain and streamed calls of both APIs, small and large, and streams whose application leaves. The first tenth warms up.
What the sidecar counts is held against what the load sent and what the provider's fixed answers cost.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import time
import urllib.request
from dataclasses import dataclass

from keelage_dev.bench.contender import CONTENDERS, Api
from keelage_dev.bench.measure import Running, Shot, fire, holding, pace, providing, started
from keelage_dev.bench.programs import BenchFailed, programs

EVENTS = 12
GROWTH_KIB = 4 * 1024
"""What a heap may still grow by after the warm-up: it is never packed as well twice."""
SHOTS = (
    (Shot(Api.MESSAGES, 64, 0), 60),
    (Shot(Api.CHAT, 64, 0), 20),
    (Shot(Api.MESSAGES, 64, 0, stream=True), 9),
    (Shot(Api.CHAT, 64, 0, stream=True), 9),
    (Shot(Api.MESSAGES, 8, 0, size=100_000), 2),
)
"""And the share of each in a hundred calls."""
OUTPUT_TOKENS = 225
"""Of each of the provider's answers."""
_OK = 'outcome="ok"'
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


class SoakFailed(Exception):
    """Something is not as it must be; the text says what."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What the sidecar's /metrics say, by name and labels."""

    samples: dict[str, list[tuple[str, float]]]

    def total(self, name: str, *having: str) -> float:
        return sum(value for labels, value in self.samples.get(name, ()) if all(each in labels for each in having))


def counters(running: Running) -> Counters:
    with urllib.request.urlopen(f"http://127.0.0.1:{running.place.control + 1}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    samples: dict[str, list[tuple[str, float]]] = {}
    for name, labels, value in _SAMPLE.findall(text):
        samples.setdefault(name, []).append((labels, float(value)))
    return Counters(samples)


def settled(running: Running) -> Counters:
    """Once no call is under way and the ledger has heard of all."""
    ends_s = time.monotonic() + 30
    while True:
        seen = counters(running)
        if not seen.total("keelage_active_calls") and not seen.total("keelage_budget_reserved_usd"):
            return seen
        if time.monotonic() > ends_s:
            raise SoakFailed("calls or reservations are left half a minute after the last answer")
        time.sleep(0.2)


def check(seen: Counters, answered: int, left: int, refused: int) -> None:
    """Every call counted once, with its tokens and its cost. Raises SoakFailed."""
    ok = seen.total("keelage_calls_total", _OK)
    gone = seen.total("keelage_calls_total", 'outcome="client_disconnect"')
    output = seen.total("gen_ai_client_token_usage_sum", 'gen_ai_token_type="output"')
    expected = {
        "calls that ended well": (ok, answered),
        "calls whose application left": (gone, left),
        "calls of any outcome": (seen.total("keelage_calls_total"), answered + left + refused),
        "durations measured": (seen.total("gen_ai_client_operation_duration_seconds_count"), answered + left),
        "bounds that were violated": (seen.total("keelage_bound_violations_total"), 0),
    }
    wrong = [
        f"{what}: {found:,.0f} counted, {true:,} true" for what, (found, true) in expected.items() if found != true
    ]
    if output < answered * OUTPUT_TOKENS:
        wrong.append(f"output tokens: {output:,.0f} counted, at least {answered * OUTPUT_TOKENS:,} true")
    spent, cost = seen.total("keelage_budget_spent_usd"), seen.total("keelage_cost_usd_total")
    if abs(spent - cost) > 1e-6 * cost:
        wrong.append(f"the budget says {spent:.6f} USD, the calls {cost:.6f}")
    if wrong:
        raise SoakFailed("; ".join(wrong))


def soak(requests: int) -> None:
    ends = programs()
    keelage = next(each for each in CONTENDERS if each.name == "keelage")
    left = rounds = 0
    with contextlib.ExitStack() as stack:
        provider = stack.enter_context(providing(ends))
        up = started(keelage, provider, stack)
        first = counters(up)  # of the calls that asked whether it is up, some came before its configuration
        answered = round(first.total("keelage_calls_total", _OK))
        refused = round(first.total("keelage_calls_total")) - answered
        warm_kib = 0
        while answered < requests:
            for shot, share in SHOTS:
                pace(provider, events=EVENTS)
                count = max(shot.connections, requests * share // 1000)
                result = fire(ends, shot, up.place.port, up.contender.headers(shot.api, up.place), up, count=count)
                if result.failed or result.answers != count:
                    raise SoakFailed(f"{result.failed} of {result.answers} calls failed: {result.last_failure}")
                answered += count
            pace(provider, gap_us=60_000_000, events=2)
            with holding(ends, Shot(Api.MESSAGES, 50, 0, stream=True), up):
                while counters(up).total("keelage_active_calls") < 50:
                    time.sleep(0.05)
            left += 50
            seen = settled(up)
            check(seen, answered, left, refused)
            rounds += 1
            rss_kib = up.rss_kib()
            warm_kib = warm_kib or rss_kib
            print(f"{answered:>12,} calls, {rss_kib / 1024:.1f} MiB", flush=True)
        grown_kib = up.rss_kib() - warm_kib
        if rounds > 1 and grown_kib > GROWTH_KIB:
            raise SoakFailed(f"memory grew by {grown_kib:,} KiB after the first of {rounds} rounds")
        print(
            f"memory grew by {grown_kib:,} KiB after the first of {rounds} rounds; every call is counted and paid once"
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak")
    parser.add_argument("--requests", type=int, default=200_000)
    try:
        soak(parser.parse_args().requests)
    except (SoakFailed, BenchFailed) as error:
        sys.stderr.write(f"soak: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
