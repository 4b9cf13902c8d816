"""One line per call."""

from __future__ import annotations

import orjson
import pytest

from keelage_api.usage import TokenUsage
from keelage_sidecar.core.log_line import CallRecord, Failed, LogLevel, time_text


def test_a_call_is_one_line_with_all_its_counts_and_its_cost() -> None:
    record = CallRecord(
        "2026-11-21T14:00:00Z", "req_1", "messages", "ok", 200, "assistant", "triage", "assistant/anthropic", "auto",
        "claude-haiku-4-5", "claude-haiku-4-5-20251001", 2, 1, "alice", "triage", stream=True, bound=9_000_000_000,
        latency_ms=812.346, first_token_ms=301.5, stop_reason="end_turn", injected=("max_tokens",), dropped=("top_k",),
        clamped=256,
        downgraded="fast", queue_ms=12.5, hedge="won", tier="deep", selected_by="default",
        failed=(Failed("assistant/openai", "gpt-5-mini", 529, None, None, 12),),
    )  # fmt: skip
    record.used(TokenUsage(30, 7, 6, 4, 42, 5, 1))
    record.charge(3_477_000_001)
    line = record.line()
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert orjson.loads(line) == {
        "time": "2026-11-21T14:00:00Z",
        "level": "info",
        "request_id": "req_1",
        "endpoint": "messages",
        "outcome": "ok",
        "status": 200,
        "route": "assistant",
        "rule": "triage",
        "backend": "assistant/anthropic",
        "request_model": "auto",
        "model": "claude-haiku-4-5",
        "response_model": "claude-haiku-4-5-20251001",
        "attempts": 2,
        "sdk_retries": 1,
        "user": "alice",
        "feature": "triage",
        "stream": True,
        "usage_known": True,
        "input_tokens": 30,
        "cache_read_input_tokens": 7,
        "cache_creation_5m_input_tokens": 6,
        "cache_creation_1h_input_tokens": 4,
        "output_tokens": 42,
        "reasoning_tokens": 5,
        "web_searches": 1,
        "cost_usd": "0.003478",
        "cost_picodollars": 3_477_000_001,
        "bound_picodollars": 9_000_000_000,
        "bound_input_tokens": 0,
        "bound_output_tokens": 0,
        "bound_violated": False,
        "uncertain": False,
        "latency_ms": 812.346,
        "first_token_ms": 301.5,
        "wait_ms": 0.0,
        "queue_ms": 12.5,
        "stop_reason": "end_turn",
        "reason": "",
        "budget": "",
        "limit": "",
        "unlimited": False,
        "clamped": 256,
        "downgraded": "fast",
        "failed": [
            {
                "backend": "assistant/openai",
                "model": "gpt-5-mini",
                "status": 529,
                "failure": None,
                "retry_after_ms": None,
                "took_ms": 12,
            }
        ],
        "hedge": "won",
        "cache": "",
        "cache_age_s": 0.0,
        "saved_picodollars": 0,
        "tier": "deep",
        "selected_by": "default",
        "upstream_request_id": "",
        "injected": ["max_tokens"],
        "dropped": ["top_k"],
    }


def test_a_line_break_in_a_name_does_not_break_the_line() -> None:
    record = CallRecord("t", "r", "chat", "refused", 429, user="a\nb", reason="BudgetExhausted")
    assert record.line().count(b"\n") == 1
    assert orjson.loads(record.line())["usage_known"] is False


def test_the_time_of_a_call_is_told_to_the_millisecond() -> None:
    assert [time_text(1_795_269_600 + fraction) for fraction in (0.0, 0.0625, 0.9999)] == [
        "2026-11-21T14:00:00.000Z",
        "2026-11-21T14:00:00.062Z",
        "2026-11-21T14:00:00.999Z",
    ]


@pytest.mark.parametrize(
    ("record", "level"),
    [
        (CallRecord("t", "r", "chat", "ok", 200), LogLevel.INFO),
        (CallRecord("t", "r", "batches", "settled", 200), LogLevel.INFO),
        (CallRecord("t", "r", "chat", "refused", 429), LogLevel.WARNING),
        (CallRecord("t", "r", "chat", "upstream_error", 500), LogLevel.WARNING),
        (CallRecord("t", "r", "chat", "client_disconnect", 0), LogLevel.WARNING),
        (CallRecord("t", "r", "chat", "error", 500), LogLevel.ERROR),
        (CallRecord("t", "r", "chat", "ok", 200, bound_violated=True), LogLevel.ERROR),
    ],
)
def test_what_went_wrong_is_told_at_higher_levels(record: CallRecord, level: LogLevel) -> None:
    assert record.judge() is level
    assert orjson.loads(record.line())["level"] == level.name.lower()


def test_levels_are_known_by_their_lower_case_names() -> None:
    assert [LogLevel.of(name) for name in ("debug", "error", "Info", "INFO", "trace", "")] == [
        *(LogLevel.DEBUG, LogLevel.ERROR, None, None, None, None)
    ]
