"""Runs every scenario in every SDK version against one target, and tells what each application saw."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path

from tests.sdk.environments import Version, environments
from tests.sdk.scenario import SCENARIOS

from keelage_dev.provider import Record, ThreadedProvider

__all__ = ["APP_KEY", "PROVIDER_KEYS", "Matrix", "Outcome", "Outcomes", "run_program"]

APP_KEY = "placeholder"
"""What an application holds behind the proxy."""
PROVIDER_KEYS = {"sk-fake-anthropic": "anthropic", "sk-fake-openai": "openai"}
"""The provider's keys and their names on its bill."""
PROGRAM = Path(__file__).with_name("client_program.py")
PROGRAM_S = 300.0

Outcome = Mapping[str, object]
"""A line that the client's program printed."""
Outcomes = Mapping[str, tuple[Outcome, int]]
"""Scenario to its outcome and the number of requests that reached the provider."""


class Matrix:
    """One target; each version's program runs once, when its outcomes are first asked for."""

    def __init__(self, provider: ThreadedProvider, base_url: str, *, proxied: bool) -> None:
        self._provider, self._base_url, self._proxied = provider, base_url, proxied
        self.outcomes = cache(self._outcomes)

    def requests(self, version: Version) -> list[Record]:
        """What the provider received from the version's program; bodies and all."""
        return self._run(version)[1]

    def _outcomes(self, version: Version) -> Outcomes:
        lines, received = self._run(version)
        reached = Counter(record.headers.get("x-scenario") for record in received)
        return {str(line["name"]): (line, reached[str(line["name"])]) for line in lines}

    @cache  # noqa: B019  # lives as long as the test session
    def _run(self, version: Version) -> tuple[list[Outcome], list[Record]]:
        keys = {name: key for key, name in PROVIDER_KEYS.items()}
        order = {
            "sdk": version.sdk,
            "base_url": self._base_url,
            "api_key": APP_KEY if self._proxied else keys[version.sdk],
            "strict": False,
            "scenarios": [asdict(each) for each in SCENARIOS[version.sdk]],
        }
        before = len(self._provider.requests())
        outcomes = run_program(version, order)
        return outcomes, self._provider.requests()[before:]


def run_program(version: Version, order: Mapping[str, object]) -> list[Outcome]:
    """What the client's program of that version says to the order."""
    ran = subprocess.run(
        [str(environments()[version]), "-I", str(PROGRAM)],
        input=json.dumps(order),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=PROGRAM_S,
    )
    return [json.loads(line) for line in ran.stdout.splitlines()]
