"""Whether a cheap answer will do, judged while it arrives. Pure."""

from __future__ import annotations

import enum

import orjson

from keelage_api.json_schema import conforms
from keelage_api.linear_regex import Expression, Scan, compile_pattern, literal
from keelage_api.proxy_config import Cascade
from keelage_sidecar.core.reply import Reply

HELD_BYTES_MAX = 1024 * 1024
"""Of a stream that must be judged at its end: text of a hundred thousand tokens, with what frames it. What is longer is
passed on unjudged, so that no answer fills the memory."""
_BLANKS_MAX = 100
"""White space before a prefix."""
_AT_THE_CAP = ("max_tokens", "length", "max_output_tokens", "model_context_window_exceeded")


class Verdict(enum.Enum):
    OPEN = enum.auto()
    """More of the answer must come."""
    KEEP = enum.auto()
    ESCALATE = enum.auto()


class Cause(enum.StrEnum):
    """Which condition held."""

    REPLY_PREFIX = "ReplyPrefix"
    PATTERN = "Pattern"
    MAX_TOKENS = "MaxTokens"
    INVALID_JSON = "InvalidJson"
    JSON_SCHEMA = "JsonSchema"


class Conditions:
    """Of one cascade, compiled."""

    def __init__(self, cascade: Cascade) -> None:
        self._terms = cascade
        self._patterns: list[tuple[Cause, Expression, int]] = []
        """Each with how many characters it is looked for in."""
        if cascade.prefix:
            prefix = compile_pattern(rf"^\s*{literal(cascade.prefix)}")
            self._patterns.append((Cause.REPLY_PREFIX, prefix, len(cascade.prefix) + _BLANKS_MAX))
        if cascade.pattern:
            self._patterns.append((Cause.PATTERN, compile_pattern(cascade.pattern), cascade.pattern_chars))

    def judge(self, reply: Reply) -> Judge:
        """For one answer."""
        scans = [(cause, expression.scan(), most) for cause, expression, most in self._patterns]
        return Judge(self._terms, reply, scans)


class Judge:
    """`feed` what comes until it is not OPEN any more, then `end` if the answer has ended before."""

    def __init__(self, terms: Cascade, reply: Reply, scans: list[tuple[Cause, Scan, int]]) -> None:
        self._reply = reply
        self._scans = scans
        self._caps = terms.max_tokens
        self._schema = terms.json_schema
        self._json = terms.invalid_json or terms.json_schema is not None
        self._text: list[str] = []
        self._chars = 0
        self._bytes = 0
        self.cause: Cause | None = None
        """Of ESCALATE."""
        self.unjudged = False
        """Of KEEP: it is too long to be held back."""

    def feed(self, data: bytes) -> Verdict:
        """What can be said now."""
        self._bytes += len(data)
        self._look(self._reply.feed(data))
        return self._verdict()

    def end(self) -> Verdict:
        """The answer has come to its end: KEEP or ESCALATE."""
        reply = self._reply
        self._look(reply.finish())
        verdict = self._verdict()
        if verdict is not Verdict.OPEN:
            return verdict
        self._end_scans(self._scans)
        if self.cause is None and self._caps and reply.stop in _AT_THE_CAP:
            self.cause = Cause.MAX_TOKENS
        if self.cause is None and self._json and not reply.calls:
            self.cause = self._wrong_json()
        return Verdict.KEEP if self.cause is None else Verdict.ESCALATE

    def give_up(self) -> Verdict:
        """No more can be held back: KEEP."""
        self.unjudged = True
        return Verdict.KEEP

    def _look(self, text: str) -> None:
        """At more of the text."""
        if not text:
            return
        if self._json:
            self._text.append(text)
        for cause, scan, most in self._scans:
            if self.cause is None and scan.feed(text[: max(0, most - self._chars)]):
                self.cause = cause
        self._chars += len(text)

    def _verdict(self) -> Verdict:
        if self._reply.calls:
            self._end_scans(self._scans)
        else:
            self._end_scans([each for each in self._scans if each[2] <= self._chars])
        if self.cause is not None:
            return Verdict.ESCALATE
        if self._reply.strange:
            return Verdict.KEEP
        self._scans = [each for each in self._scans if each[2] > self._chars and not each[1].hopeless]
        waits = (self._scans and not self._reply.calls) or self._caps or (self._json and not self._reply.calls)
        if not waits:
            return Verdict.KEEP
        return Verdict.OPEN if self._bytes <= HELD_BYTES_MAX else self.give_up()

    def _end_scans(self, scans: list[tuple[Cause, Scan, int]]) -> None:
        """For these no more text counts."""
        for cause, scan, _ in scans:
            if self.cause is None and scan.end():
                self.cause = cause

    def _wrong_json(self) -> Cause | None:
        try:
            value = orjson.loads("".join(self._text))
        except orjson.JSONDecodeError:
            return Cause.INVALID_JSON
        return None if self._schema is None or conforms(value, self._schema) else Cause.JSON_SCHEMA
