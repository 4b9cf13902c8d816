"""Calls of rules with a `history`: what is sent of the conversation, a summary asked for where one is due."""

from __future__ import annotations

from keelage_sidecar.core.history import conversation
from keelage_sidecar.core.log_line import Purpose
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.routing import RoutingTable
from keelage_sidecar.core.summaries import OUTPUT_TOKENS_MAX, TIMEOUT_S, Shortened, Summaries
from keelage_sidecar.shell.inner_call import Asker, InnerCalls, Unanswered, Whom
from keelage_sidecar.shell.means import Means
from keelage_sidecar.shell.story import Story


class Shortening:
    def __init__(self, means: Means, inner: InnerCalls) -> None:
        self._means = means
        self._inner = inner
        self._summaries = Summaries()

    async def shorten(self, table: RoutingTable, facts: Facts, story: Story) -> Facts:
        """The call as it is to be sent; the story hears what is missing. Never fails: without a summary, it cuts."""
        assert story.plan is not None
        rule = story.plan.rule
        talk = conversation(facts, rule.history.keep_turns) if rule.history is not None else None
        if talk is None or rule.history is None:
            return facts
        terms, name = rule.history.summary, (rule.route, rule.name)
        summaries, clock = self._summaries, self._means.clock
        found = summaries.shorten(talk, terms, name, clock())
        if not isinstance(found, Shortened):
            assert terms is not None
            choices = table.config.tiers.get(f"{rule.route}/{terms.tier}", ())
            left_s = story.patience_left_s(clock())
            # The application must still be there for the answer itself.
            timeout_s = TIMEOUT_S if left_s is None else max(0.0, min(TIMEOUT_S, left_s / 2))
            whom = Whom(choices, timeout_s, terms.tier, OUTPUT_TOKENS_MAX)
            text = await self._inner.question(Asker(table, rule, facts, story), whom, found.question, Purpose.SUMMARY)
            if isinstance(text, Unanswered):
                summaries.failed(name, clock())
                found = found.otherwise
            else:
                summaries.written(found.digest, text)
                number = len(talk.cuttable)
                found = Shortened(talk.without(number, text), summarized=number)
        story.trimmed, story.summarized = found.trimmed, found.summarized
        return found.facts
