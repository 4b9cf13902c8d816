"""What is asked of a classifier's model, and what it has said already. Pure."""

from __future__ import annotations

import hashlib

from keelage_api.selection import Classifier
from keelage_sidecar.core.question import Question

TEXT_MAX = 8_000
"""Characters of the prompt that are shown to it: what a call is about stands at its beginning, and each costs."""
ANSWER_MAX = 200
"""Characters that are remembered; the longest answer that a manifest can wait for has 64."""
KNOWN_MAX = 4096
"""Answers, of about 200 bytes each."""
FRESH_S = 3600.0
"""A model that is replaced, or a prompt that says `today`, is asked again within the hour."""


def question_of(classifier: Classifier, text: str) -> Question:
    """The instruction as the system prompt; the text in tags, so that it is not taken for a further one."""
    return Question(classifier.prompt, f"<request>\n{text[:TEXT_MAX]}\n</request>")


class KnownAnswers:
    """The last ones, by a digest of the question: the text itself is not kept."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[float, str]] = {}

    def find(self, key: bytes, now_s: float) -> str | None:
        found = self._known.get(key)
        return found[1] if found is not None and now_s < found[0] + FRESH_S else None

    def remember(self, key: bytes, said: str, now_s: float) -> None:
        """Forgets the one that was heard longest ago where there are too many."""
        self._known.pop(key, None)
        if len(self._known) >= KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[key] = now_s, said[:ANSWER_MAX]


def key_of(route: str, tier: str, question: Question) -> bytes:
    """Of who is asked what."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (route, tier, question.system, question.text):
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(raw) + raw)
    return digest.digest()
