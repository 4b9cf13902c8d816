"""A block of an answer whose deltas may come mixed with those of others, as a chat stream may send parallel calls."""

from __future__ import annotations

from dataclasses import dataclass, field

import orjson


@dataclass(slots=True)
class PendingBlock:
    """Text, or a call of a tool with its arguments."""

    call: str | None = None
    """The call's id; None for text."""
    name: str = ""
    index: int | None = None
    """Of the call, as the upstream numbers them."""
    waiting: list[str] = field(default_factory=list)
    """What has come and could not be sent yet."""
    sent: list[str] = field(default_factory=list)
    """Of a call: what was sent, to know when its arguments are whole."""

    def take(self) -> str:
        """What waits, which counts as sent from now on."""
        text = "".join(self.waiting)
        self.waiting.clear()
        if self.call is not None and text:
            self.sent.append(text)
        return text

    @property
    def whole(self) -> bool:
        """Nothing can follow: for text always, as more text makes another block."""
        if self.call is None:
            return True
        try:
            return isinstance(orjson.loads("".join((*self.sent, *self.waiting))), dict)
        except orjson.JSONDecodeError:
            return False
