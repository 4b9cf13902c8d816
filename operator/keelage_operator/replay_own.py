"""The sidecars' own calls in a replay: what a classifier, summaries and vectors cost, before and after. Pure.

Their lines stand before that of the application's call that they were made for, which the id names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from keelage_api.proxy_config import ModelChoice, Rule
from keelage_api.selection import Classifier
from keelage_api.usage import TokenUsage
from keelage_operator.core.kept_answers import embedders_of
from keelage_sidecar.core.classification import TEXT_MAX
from keelage_sidecar.core.history import BYTES_PER_TOKEN
from keelage_sidecar.core.log_line import CallRecord, Purpose
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.routing import Plan, RoutingTable
from keelage_sidecar.core.selection import Ask, Case, Selected, choose

NOTHING_SAID = ""
"""An answer that no condition waits for."""


@dataclass(frozen=True, slots=True)
class Again:
    """A call of the sidecar's own that would be made under the new manifests."""

    purpose: Purpose
    tier: str
    before: CallRecord | None
    """None: no line tells of such a call; it is taken to use this much."""
    usage: TokenUsage
    choices: tuple[ModelChoice, ...] = ()
    """Who is asked, where `tier` is empty."""


@dataclass(slots=True)
class OwnCalls:
    _waiting: dict[str, list[CallRecord]] = field(default_factory=dict)
    """By the id of the application's call."""
    _known: set[tuple[str, str]] = field(default_factory=set)
    """Routes and rules whose calls a classifier was asked about: where no line tells of it, its answer was kept."""

    def hear(self, record: CallRecord) -> None:
        """A line with a purpose."""
        self._waiting.setdefault(record.request_id.rpartition("/")[0], []).append(record)
        if record.purpose == Purpose.CLASSIFIER:
            self._known.add((record.route, record.rule.rpartition("/")[0]))

    def of(self, record: CallRecord) -> list[CallRecord]:
        """Those that were made for the call; each is told once."""
        return self._waiting.pop(record.request_id, [])

    @property
    def left(self) -> int:
        """Those whose application's call has no line."""
        return sum(map(len, self._waiting.values()))

    def again(
        self, record: CallRecord, own: Sequence[CallRecord], rule: Rule, asked: Sequence[Classifier]
    ) -> list[Again]:
        """What the rule would have made for the call. `asked`: the classifiers that it comes to."""
        questions = [each for each in own if each.purpose == Purpose.CLASSIFIER]
        found = [
            Again(Purpose.CLASSIFIER, by.tier, line, used(line)) for by, line in zip(asked, questions, strict=False)
        ]
        if not questions and (record.route, record.rule) not in self._known:
            found += [Again(Purpose.CLASSIFIER, by.tier, None, _likely(record, by)) for by in asked]
        summary = None if rule.history is None else rule.history.summary
        if summary is not None:
            lines = [each for each in own if each.purpose == Purpose.SUMMARY]
            found += [Again(Purpose.SUMMARY, summary.tier, line, used(line)) for line in lines]
        if embedder := embedders_of((rule,)):
            lines = [each for each in own if each.purpose == Purpose.EMBEDDING]
            found += [Again(Purpose.EMBEDDING, "", line, used(line), embedder) for line in lines]
        return found


def used(record: CallRecord) -> TokenUsage:
    """What was counted."""
    return TokenUsage(
        record.input_tokens,
        record.cache_read_tokens,
        record.cache_write_5m_tokens,
        record.cache_write_1h_tokens,
        record.output_tokens,
        record.reasoning_tokens,
        record.web_searches,
    )


def _likely(record: CallRecord, classifier: Classifier) -> TokenUsage:
    """Of a question about the whole prompt that is answered up to its cap."""
    text = min(record.prompt_tokens, TEXT_MAX // BYTES_PER_TOKEN)
    return TokenUsage(
        input_tokens=text + len(classifier.prompt) // BYTES_PER_TOKEN, output_tokens=classifier.max_tokens
    )


def selected(table: RoutingTable, rule: Rule, case: Case) -> tuple[Plan | Refusal, tuple[Classifier, ...]]:
    """The tier where no classifier says what would select one, and the classifiers that are asked on the way there."""
    asked: dict[int, Classifier] = {}
    while isinstance(step := choose(table, rule, case, dict.fromkeys(asked, NOTHING_SAID)), Ask):
        asked[step.index] = step.classifier
    return step.plan if isinstance(step, Selected) else step, tuple(asked.values())
