"""What the application's user asks: the text that conditions on a prompt look at. Pure.

Read from the body a second time, and only for rules that ask: most calls are decided without it, and a call
that lasts for minutes is not to keep its prompt twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import orjson

from keelage_api.selection import as_words
from keelage_sidecar.core.request import Facts

TEXT_MAX = 200_000
"""Characters that are looked at: two hundred pages, in ten milliseconds."""

_TEXTS = ("text", "input_text")  # no set: a block's type may be a list, which no set can look for


class Prompt:
    """The last user turn that has text; of embeddings all texts. Results of tools are no text of the user's.

    An agent that calls tools goes on with the question that it was asked, so all calls of its loop see the same text.
    """

    __slots__ = ("_facts", "_folded", "_text", "counted")

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._text: str | None = None
        self._folded: str | None = None
        self.counted: int | None = None
        """The words, once somebody asked for their number."""

    @property
    def text(self) -> str:
        """Up to TEXT_MAX characters; empty where the call has none."""
        if self._text is None:
            self._text = _asked(self._facts)[:TEXT_MAX]
        return self._text

    @property
    def words(self) -> int:
        """As white space divides them."""
        if self.counted is None:
            self.counted = len(self.text.split())
        return self.counted

    @property
    def folded(self) -> str:
        """What keywords are searched in (`as_words`)."""
        if self._folded is None:
            self._folded = as_words(self.text)
        return self._folded


def _asked(facts: Facts) -> str:
    body = orjson.loads(facts.body) if facts.endpoint.has_model else None
    if not isinstance(body, dict):
        return ""
    turns = body.get("messages")
    if turns is None:
        turns = body.get("input")
        if isinstance(turns, list) and all(isinstance(each, str) for each in turns):
            return _joined(turns)
    if isinstance(turns, str):
        return turns
    for turn in reversed(turns) if isinstance(turns, list) else ():
        if isinstance(turn, dict) and turn.get("role") == "user" and (text := _joined(_texts(turn.get("content")))):
            return text
    return ""


def _texts(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    for block in content if isinstance(content, list) else ():
        if isinstance(block, dict) and block.get("type") in _TEXTS and isinstance(text := block.get("text"), str):
            yield text


def _joined(texts: Iterable[str]) -> str:
    return "\n".join(text for text in texts if text and not text.isspace())
