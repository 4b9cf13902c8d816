"""Token counts, from the request alone and the prompts seen before. Nothing here is random.

A token is four bytes of canonical JSON of what the model reads (tools, system, messages), at least one.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from keelage_dev.provider.body import mapping, mappings, packed, text

__all__ = ["Breakpoint", "PromptCache", "Usage", "prompt", "tokens_of"]

BYTES_PER_TOKEN = 4
CACHED_PREFIXES_MAX = 100_000
"""A benchmark must not grow the cache for ever; the oldest prefix is forgotten."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one call is billed for. `input` excludes all cached tokens, `output` includes thinking."""

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    thinking: int = 0

    @property
    def prompt(self) -> int:
        """All tokens that the model reads."""
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h


LOOK_BACK_BLOCKS = 20
"""Before a breakpoint, in which an earlier entry is found."""
LIVES_S = {"5m": 300.0, "1h": 3600.0}


@dataclass(frozen=True, slots=True)
class Prefix:
    """The prompt up to the end of a block."""

    digest: bytes
    tokens: int


@dataclass(frozen=True, slots=True)
class Breakpoint:
    """The prompt up to a `cache_control`, which is for `5m` or `1h`."""

    digest: bytes
    tokens: int
    ttl: str
    earlier: tuple[Prefix, ...] = ()
    """Up to the LOOK_BACK_BLOCKS blocks before; the nearest last."""


@dataclass(slots=True)
class _Entry:
    life_s: float
    until_s: float


@dataclass(slots=True)
class PromptCache:
    """The prefixes written so far. Reading one makes it live anew."""

    clock: Callable[[], float] = time.monotonic
    _seen: dict[bytes, _Entry] = field(default_factory=dict)

    def usage(self, tokens: int, marks: list[Breakpoint], *, min_tokens: int) -> Usage:
        """Split a prompt of `tokens` into read, written and plain tokens, and remember what was written."""
        marks = [mark for mark in marks if mark.tokens >= min_tokens]
        read = max((self._read(mark, min_tokens) for mark in marks), default=0)
        written = {"5m": 0, "1h": 0}
        at = read
        for mark in marks:
            if mark.tokens > at:
                written[mark.ttl] += mark.tokens - at
                at = mark.tokens
            life_s = LIVES_S[mark.ttl]
            self._seen[mark.digest] = _Entry(life_s, self.clock() + life_s)
        while len(self._seen) > CACHED_PREFIXES_MAX:
            del self._seen[next(iter(self._seen))]
        return Usage(input=tokens - at, cache_read=read, cache_write_5m=written["5m"], cache_write_1h=written["1h"])

    def _read(self, mark: Breakpoint, min_tokens: int) -> int:
        """Tokens of the longest living entry that the breakpoint finds; 0: none."""
        now_s = self.clock()
        for prefix in (Prefix(mark.digest, mark.tokens), *reversed(mark.earlier)):
            entry = self._seen.get(prefix.digest)
            if entry is not None and now_s < entry.until_s and prefix.tokens >= min_tokens:
                entry.until_s = now_s + entry.life_s
                return prefix.tokens
        return 0


def tokens_of(raw: bytes) -> int:
    """At least one, else a token per four bytes, rounded up."""
    return _tokens(len(raw))


def prompt(body: Mapping[str, object]) -> tuple[int, list[Breakpoint]]:
    """Tokens of a Messages request and its cache breakpoints, in render order: tools, system, messages.

    A `cache_control` at the top level stands for one on the last block.
    """
    read = hashlib.sha256(text(body.get("model")).encode())
    length = 0
    marks: list[Breakpoint] = []
    prefixes: list[Prefix] = []
    blocks = _blocks(body)
    automatic = mapping(body.get("cache_control"))
    for at, block in enumerate(blocks, start=1):
        bare = packed({name: value for name, value in block.items() if name != "cache_control"})
        read.update(bare)
        length += len(bare)
        control = mapping(block.get("cache_control")) or (automatic if at == len(blocks) else {})
        if control:
            ttl = "1h" if control.get("ttl") == "1h" else "5m"
            earlier = tuple(prefixes[-LOOK_BACK_BLOCKS:])
            marks.append(Breakpoint(read.digest(), _tokens(length), ttl, earlier))
        prefixes.append(Prefix(read.digest(), _tokens(length)))
    return _tokens(length), marks


def _tokens(length: int) -> int:
    return max(1, -(-length // BYTES_PER_TOKEN))


def _blocks(body: Mapping[str, object]) -> list[Mapping[str, object]]:
    blocks = [*mappings(body.get("tools")), *_content(body.get("system"), "system")]
    for message in mappings(body.get("messages")):
        blocks += _content(message.get("content"), text(message.get("role")))
    return blocks


def _content(content: object, role: str) -> list[Mapping[str, object]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content, "role": role}]
    return [{**block, "role": role} for block in mappings(content)]
