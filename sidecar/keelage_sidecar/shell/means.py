"""All that the request path uses of the outside world, and what its calls know of each other."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from keelage_sidecar.core.expectation import Expectations
from keelage_sidecar.core.health import HealthBook
from keelage_sidecar.core.held_bytes import HeldBytes
from keelage_sidecar.core.latency import LatencyBook
from keelage_sidecar.core.prompt_cache_book import PromptCacheBook
from keelage_sidecar.core.response_cache import ResponseCache
from keelage_sidecar.core.savings import Savings
from keelage_sidecar.shell.credentials import Credentials
from keelage_sidecar.shell.purse import Purse
from keelage_sidecar.shell.upstream import Upstream


@dataclass(frozen=True, slots=True)
class Means:
    purse: Purse
    upstream: Upstream
    credentials: Credentials
    clock: Callable[[], float]
    """Monotonic seconds: the loop's."""
    unix: Callable[[], float]
    """Seconds since 1970."""
    pick: Callable[[], float]
    """Uniform in [0, 1)."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    health: HealthBook = field(default_factory=HealthBook)
    """Of the models at each backend."""
    expectations: Expectations = field(default_factory=Expectations)
    responses: ResponseCache = field(default_factory=ResponseCache)
    """Answers that are kept, of the rules that keep any."""
    held: HeldBytes = field(default_factory=HeldBytes)
    """Of answers that are judged, or copied to be kept."""
    latency: LatencyBook = field(default_factory=LatencyBook)
    savings: Savings = field(default_factory=Savings)
    prompt_caches: PromptCacheBook = field(default_factory=PromptCacheBook)
    queues: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    """By backend: attempts that wait for room in the provider's limits."""
