"""Why an answer ended, in the words of the other API."""

from __future__ import annotations

CUT_BY_CAP = "length"
"""The `finish_reason` of an answer that reached its cap: the arguments of its last call may not be whole."""
_TO_CHAT = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_TO_MESSAGES = {
    "stop": "end_turn",
    "eos": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


def finish_reason(stop_reason: str) -> str:
    """An unknown one is an end like any other: strict clients take no other word."""
    return _TO_CHAT.get(stop_reason, "stop")


def stop_reason(finish_reason: str, *, refused: bool, called: bool) -> str:
    """`refused`: the message holds a refusal, which OpenAI ends with `stop`; `called`: it holds a call, after which
    `stop` stands too where the request named the function.

    Which stop sequence was met cannot be known: it is an `end_turn`.
    """
    if refused:
        return "refusal"
    reason = _TO_MESSAGES.get(finish_reason, "end_turn")
    return "tool_use" if called and reason == "end_turn" else reason
