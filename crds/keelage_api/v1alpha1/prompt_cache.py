"""Caches of prompts at the provider: whether keelage asks for them where the application does not."""

from __future__ import annotations

import enum

from keelage_api.v1alpha1.metadata import Part


class CacheInsertion(enum.StrEnum):
    AUTO = "Auto"
    NEVER = "Never"


class PromptCacheTTL(enum.StrEnum):
    """The lives that Anthropic offers."""

    MINUTES = "5m"
    HOUR = "1h"


class PromptCache(Part):
    """Breakpoints for Anthropic's prompt cache, and `prompt_cache_key` for OpenAI's. A call that sets its own is left
    as it is. What is written to a cache costs more than plain input: hard budgets reserve that."""

    insert: CacheInsertion = CacheInsertion.AUTO
    """Auto: at the end of tools, system and documents and, in conversations, of the last turn, where they are long
    enough for the model; each sidecar stops where the reads do not repay the writes, and tries again later.
    Never: calls pass as they are."""
    ttl: PromptCacheTTL = PromptCacheTTL.MINUTES
    """How long Anthropic keeps an entry that is not read. To write for 1h costs twice the input price instead of 1.25
    times: worth it where calls with the same beginning are more than five minutes apart."""
