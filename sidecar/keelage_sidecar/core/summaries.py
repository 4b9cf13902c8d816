"""Summaries of turns that are not sent any more: what is there, what is to be asked for, what to do without. Pure.

A summary stands for the oldest turns; those after it are sent as they are until they, too, have become long, and
then one summary is made of both. So a conversation needs one for every so many tokens, not for every turn, and its
beginning stays the same in between, as prompt caches like it.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from keelage_api.proxy_config import Summary
from keelage_sidecar.core.history import Conversation
from keelage_sidecar.core.question import Question
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.transcript import transcript

KEPT_BYTES_MAX = 2 * 1024 * 1024
"""Of summaries: some five hundred of the longest."""
OUTPUT_TOKENS_MAX = 1024
TIMEOUT_S = 30.0
"""The application waits for it: a small model writes a thousand tokens in ten seconds."""
PAUSE_S = 30.0
"""After a failure nobody waits for another one for so long; turns are cut meanwhile."""
_INSTRUCTION = (
    "Summarize the conversation between a user and an assistant that follows. Keep every fact, name, number, decision,"
    " open question and wish that a later answer may need; leave out politeness. Write only the summary."
)


class Shortened(msgspec.Struct, frozen=True):
    facts: Facts
    trimmed: int = 0
    """Turns that were cut."""
    summarized: int = 0
    """Turns that a summary stands for."""


class Wanted(msgspec.Struct, frozen=True):
    """A summary that must be written first."""

    question: Question
    digest: bytes
    """Of the turns that it is to stand for: all that may be cut."""
    otherwise: Shortened
    """The call if there will be none."""


class Summaries:
    """Those of this sidecar, the least recently used are forgotten first."""

    def __init__(self) -> None:
        self._texts: OrderedDict[bytes, str] = OrderedDict()
        self._bytes = 0
        self._paused: dict[tuple[str, str], float] = {}
        """By route and rule, until when; as many as the configuration has."""

    def shorten(
        self, talk: Conversation, terms: Summary | None, rule: tuple[str, str], now_s: float
    ) -> Shortened | Wanted:
        """The call with what is there. `rule`: route and name."""
        turns = talk.cuttable
        if terms is None:
            return Shortened(talk.without(len(turns)), trimmed=len(turns))
        digests = talk.digests()
        known = next((number for number in range(len(turns), 0, -1) if digests[number - 1] in self._texts), 0)
        summary = self._of(digests[known - 1]) if known else ""
        rest = turns[known:]
        if sum(turn.tokens for turn in rest) <= terms.over_tokens:
            return Shortened(talk.without(known, summary), summarized=known)
        otherwise = Shortened(talk.without(len(turns), summary), trimmed=len(rest), summarized=known)
        if now_s < self._paused.get(rule, now_s):
            return otherwise
        said = f"assistant: {summary}\n" if summary else ""
        said += "".join(transcript(turn.messages) for turn in rest)
        return Wanted(Question(_INSTRUCTION, said), digests[-1], otherwise)

    def written(self, digest: bytes, text: str) -> None:
        """A summary has come."""
        self._forget(digest)
        self._texts[digest] = text
        self._bytes += len(text.encode("utf-8", "surrogatepass"))
        while self._bytes > KEPT_BYTES_MAX:
            self._forget(next(iter(self._texts)))

    def failed(self, rule: tuple[str, str], now_s: float) -> None:
        """One has not."""
        self._paused[rule] = now_s + PAUSE_S

    def _of(self, digest: bytes) -> str:
        self._texts.move_to_end(digest)
        return self._texts[digest]

    def _forget(self, digest: bytes) -> None:
        text = self._texts.pop(digest, None)
        if text is not None:
            self._bytes -= len(text.encode("utf-8", "surrogatepass"))
