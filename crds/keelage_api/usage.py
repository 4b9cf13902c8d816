"""What one inference consumed, in tokens, as its provider reported it."""

from __future__ import annotations

import msgspec

EXPECTED_OUTPUT_TOKENS = 256
"""Of a call to a model that has answered nothing yet; a call that may have fewer is expected to have those."""


class TokenUsage(msgspec.Struct, frozen=True, gc=False):
    """Token counts of one upstream answer; the classes are disjoint but `reasoning_tokens`.

    `input_tokens` excludes what was read from or written to a prompt cache, as at
    Anthropic; the fold of the OpenAI dialect subtracts. `reasoning_tokens` is the part
    of `output_tokens` that was thought and not said.
    """

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    web_searches: int = 0
    speed: str = ""
    """Anthropic `usage.speed`: what was served, `standard` or `fast`; empty where none was told."""
    geo: str = ""
    """Anthropic `usage.inference_geo`; empty where none was told."""
    service_tier: str = ""
    extra: tuple[tuple[str, TokenUsage], ...] = ()
    """Billed inferences outside the totals above (compaction, advisor), each with its model."""

    @property
    def prompt_tokens(self) -> int:
        """All that went in; the size that chooses a price tier."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_5m_tokens + self.cache_write_1h_tokens

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens
