"""Finds the tier of a call whose rule has several, and asks classifiers where it depends on them."""

from __future__ import annotations

from keelage_sidecar.core.classification import KnownAnswers, key_of, question_of
from keelage_sidecar.core.log_line import Purpose
from keelage_sidecar.core.refusal import Refusal
from keelage_sidecar.core.routing import Plan
from keelage_sidecar.core.selection import Ask, Case, choose
from keelage_sidecar.shell.inner_call import Asker, InnerCalls, Whom
from keelage_sidecar.shell.means import Means
from keelage_sidecar.shell.single_flight import SingleFlights


class Selector:
    def __init__(self, means: Means, inner: InnerCalls) -> None:
        self._means = means
        self._inner = inner
        self._known = KnownAnswers()
        self._flights = SingleFlights[str](means.clock)

    async def select(self, asker: Asker) -> Plan | Refusal:
        """Whom to ask, on the tier that the rule selects for the call; why is told in the call's story."""
        means = self._means
        case = Case(asker.facts, means.purse.used_percent, means.unix())
        answers: dict[int, str | None] = {}
        while isinstance(step := choose(asker.table, asker.rule, case, answers), Ask):
            answers[step.index] = await self._said(asker, step)
        asker.story.prompt_words = case.prompt.counted
        asker.story.unanswered = None in answers.values()
        if isinstance(step, Refusal):
            return step
        asker.story.selected_by = step.by
        return step.plan

    async def _said(self, asker: Asker, ask: Ask) -> str | None:
        """What the classifier's model says; None: nothing, in time. Who asks the same meanwhile waits for it."""
        classifier, route, clock = ask.classifier, asker.rule.route, self._means.clock
        question = question_of(classifier, ask.text)
        key = key_of(route, classifier.tier, question)
        known = self._known.find(key, clock())
        if known is not None:
            return known
        left_s = asker.story.patience_left_s(clock())
        timeout_s = classifier.timeout_ms / 1000
        until_s = clock() + (timeout_s if left_s is None else max(0.0, min(timeout_s, left_s)))
        heard = await self._flights.hear(key, until_s)
        if heard is not None:
            return heard
        whom = Whom(
            asker.table.config.tiers.get(f"{route}/{classifier.tier}", ()),
            max(0.0, until_s - clock()),
            classifier.tier,
            classifier.max_tokens,
        )
        with self._flights.lead(key) as flight:
            said = await self._inner.question(asker, whom, question, Purpose.CLASSIFIER)
            if not isinstance(said, str):
                flight.land(None)
                return None
            self._known.remember(key, said, clock())
            flight.land(said)
            return said
