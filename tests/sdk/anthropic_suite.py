"""Anthropic's streaming tests, as they are and through keelage.

As they are, answers are put in where the SDK would open a connection. Through keelage the same answers come over
the wire (`respx_bridge`), from a provider that keelage asks.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.sdk import proxy
from tests.sdk.suite import Suite

SUITE = Suite(
    "anthropic==2.12.0",
    ("tests/lib/streaming",),
    (
        *("pytest", "pytest-asyncio", "respx", "inline-snapshot", "http-snapshot[httpx]==0.1.9", "httpx2", "rich"),
        *("dirty-equals", "time-machine", "hypothesis", "aiohttp"),
    ),
)
ALIAS = ("-p", "tests._alias_httpx")
"""The SDK's own plugin, which makes respx answer for its HTTP client."""
BRIDGE = ("-p", "no:respx", "-p", "respx_bridge")
PORT = 4011


def same() -> bool:
    """Whether what passes as it is passes through keelage."""
    SUITE.build()
    straight = SUITE.passed(*ALIAS)
    with (
        tempfile.TemporaryDirectory() as folder,
        proxy.running(Path(folder), proxy.unlimited(f"http://127.0.0.1:{PORT}")) as url,
    ):
        proxied = SUITE.passed(
            *ALIAS,
            *BRIDGE,
            TEST_API_BASE_URL=url,
            PYTHONPATH=str(Path(__file__).parent),
            BRIDGE_PORT=str(PORT),
        )
    return SUITE.compare(straight, proxied)
