"""What models accept beyond what their API says, by their names; from the providers' documentation, November 2026."""

from __future__ import annotations

import re

import msgspec

from keelage_api.proxy_config import Provider

_CLAUDE = re.compile(r"claude-(opus|sonnet|haiku|fable|mythos)-(\d{1,2})(?!\d)(?:-(\d{1,2})(?!\d))?")
_OLD_CLAUDE = re.compile(r"claude-(\d)(?:-(\d))?-")
_GPT = re.compile(r"(?:^|/)gpt-5(?:\.(\d+))?(?![.\d])")
_O_SERIES = re.compile(r"(?:^|/)o[134](?!\d)")


class ClaudeTraits(msgspec.Struct, frozen=True):
    """A model that is not known here counts as one of the newest."""

    sampling: bool
    """Takes `temperature`, `top_p` and `top_k`, under API version 2023-06-01."""
    adaptive: bool
    """Thinks as much as `output_config.effort` says; older ones take a budget in tokens."""
    forced_tools: bool
    """Can be made to call a tool."""
    always_thinks: bool
    late_system: bool
    """Takes `role: system` in the middle of `messages`."""


class ChatTraits(msgspec.Struct, frozen=True):
    """A model that is not known here counts as one that does not reason."""

    least_effort: str
    """The lowest `reasoning_effort` that it takes; empty: it takes none."""
    sampling: bool
    stop: bool
    newer_cap: bool
    """The output cap is called `max_completion_tokens`."""
    system_role: str
    files: bool
    """Takes PDF in parts of type `file`."""


def claude_traits(model: str) -> ClaudeTraits:
    family, version = "", (99, 0)
    if (found := _CLAUDE.search(model)) is not None:
        family, version = found[1], (int(found[2]), int(found[3] or 0))
    elif (old := _OLD_CLAUDE.search(model)) is not None:
        version = (int(old[1]), int(old[2] or 0))
    since = {"opus": (5, 5), "sonnet": (5, 5), "fable": (5, 1), "mythos": (5, 1)}.get(family)
    always_thinks = since is not None and version >= since
    return ClaudeTraits(
        sampling=version <= (4, 6),
        adaptive=version >= (4, 6),
        forced_tools=not always_thinks,
        always_thinks=always_thinks,
        late_system=version >= ((4, 8) if family == "opus" else (5, 0)),
    )


def chat_traits(model: str, provider: Provider) -> ChatTraits:
    ours = provider is Provider.OPENAI
    least, fixed = "", False
    if "chat-latest" not in model and (gpt := _GPT.search(model)) is not None:
        least, fixed = "none" if gpt[1] else "minimal", True
    elif _O_SERIES.search(model) is not None:
        least, fixed = "low", True
    elif "gpt-oss" in model:
        least = "low"
    return ChatTraits(
        least_effort=least,
        sampling=not fixed,
        stop=not fixed,
        newer_cap=ours,
        system_role="developer" if ours and fixed else "system",
        files=ours,
    )
