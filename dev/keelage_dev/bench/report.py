"""The benchmark's figures: a table of medians and ratios, JSON, and a plot."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

from keelage_dev.bench.contender import PYTHON, python_version
from keelage_dev.bench.measure import Result

Results = Mapping[str, Mapping[str, Sequence[Result]]]
"""By shot, then by contender: one for each round."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Of a contender, once."""

    start_s: float
    idle_kib: int
    loaded_kib: int
    per_stream_kib: float
    """Of each of a thousand open streams."""


def machine() -> str:
    """What the figures belong to."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{os.cpu_count()} cores of {model}, Linux {platform.release()}, Python {python_version()} ({PYTHON})"


def median(runs: Sequence[Result], field: str) -> float:
    return float(statistics.median(getattr(run, field) for run in runs))


def table(results: Results, measured: Mapping[str, Measured]) -> str:
    """Lines for people; ratios to nginx where it ran, else to direct."""
    lines = []
    for label, by_name in results.items():
        lines += ["", label, f"  {'':10}{'per s':>11}{'x nginx':>9}{'p50 us':>11}{'p99 us':>12}{'first us':>11}"]
        lines[-1] += f"{'CPU us':>9}{'events/s':>11}{'CPU us/ev':>11}{'failed':>8}"
        base = median(by_name.get("nginx") or by_name["direct"], "per_s")
        for name, runs in by_name.items():
            rate = median(runs, "per_s")
            answers, failed = sum(run.answers for run in runs), sum(run.failed for run in runs)
            if failed >= answers:
                lines.append(f"  {name:10}{'answered none of them':>31}: {runs[-1].last_failure[:60]}")
                continue
            text = f"  {name:10}{rate:>11,.0f}{rate / base if base else 0:>9.3g}{median(runs, 'p50_us'):>11,.0f}"
            text += f"{median(runs, 'p99_us'):>12,.0f}{median(runs, 'first_p50_us'):>11,.0f}"
            text += f"{median(runs, 'cpu_us_per_answer'):>9.1f}{median(runs, 'events_per_s'):>11,.0f}"
            text += f"{median(runs, 'cpu_us_per_event'):>11.2f}{failed:>8}"
            lines.append(text)
        lines += _ratios(by_name)
    lines += ["", f"  {'':10}{'start s':>9}{'idle MiB':>10}{'loaded MiB':>12}{'KiB/stream':>12}"]
    for name, each in measured.items():
        text = f"  {name:10}{each.start_s:>9.2f}{each.idle_kib / 1024:>10.1f}{each.loaded_kib / 1024:>12.1f}"
        lines.append(f"{text}{each.per_stream_kib:>12.1f}")
    return "\n".join(lines)


def _ratios(by_name: Mapping[str, Sequence[Result]]) -> list[str]:
    """keelage against each other contender that answered, in one line."""
    own = by_name.get("keelage")
    if own is None:
        return []
    rates = {
        name: median(runs, "per_s") for name, runs in by_name.items() if all(run.answers > run.failed for run in runs)
    }
    text = ", ".join(
        f"{median(own, 'per_s') / rate:.3g} x {name}"
        for name, rate in rates.items()
        if name not in ("direct", "keelage")
    )
    return [f"  keelage is {text}"] if text else []


def write(folder: Path, results: Results, measured: Mapping[str, Measured], by_rules: str) -> None:
    """`latest.json`, `latest.txt` and `latest.svg` in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    runs = {
        label: {name: [asdict(run) for run in each] for name, each in by_name.items()}
        for label, by_name in results.items()
    }
    whole = {
        "command": "make bench",
        "machine": machine(),
        "contenders": {name: asdict(each) for name, each in measured.items()},
        "decision_path": by_rules.splitlines(),
        "runs": runs,
    }
    (folder / "latest.json").write_text(json.dumps(whole, indent=1) + "\n", "utf-8")
    (folder / "latest.txt").write_text(f"{machine()}\n{table(results, measured)}\n\n{by_rules}", "utf-8")
    (folder / "latest.svg").write_text(plot(results), "utf-8")


def plot(results: Results) -> str:
    """Answers per second as bars on a logarithmic scale, one group for each shot."""
    groups = [
        (label, [(name, median(runs, "per_s")) for name, runs in by_name.items() if name != "direct"])
        for label, by_name in results.items()
    ]
    rows: list[str] = []
    y = 10
    for label, bars in groups:
        rows.append(f'<text x="10" y="{y + 14}" font-weight="bold">{escape(label)}</text>')
        y += 22
        for name, rate in bars:
            width = max(1.0, 90.0 * _log10(rate))
            colour = "#0b6e4f" if name == "keelage" else "#9aa5b1"
            rows.append(f'<text x="100" y="{y + 12}" text-anchor="end">{escape(name)}</text>')
            rows.append(f'<rect x="108" y="{y}" width="{width:.1f}" height="15" fill="{colour}"/>')
            rows.append(f'<text x="{112 + width:.1f}" y="{y + 12}">{rate:,.0f}/s</text>')
            y += 19
        y += 12
    style = 'font-family="sans-serif" font-size="12" fill="#222"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{y}" {style}>'
    ground = f'<rect width="720" height="{y}" fill="white"/>'
    return "\n".join((head, ground, *rows, "</svg>", ""))


def _log10(value: float) -> float:
    return math.log10(value) if value > 1 else 0.0
