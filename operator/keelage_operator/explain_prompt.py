"""What rules change in the prompt of a call that `explain_request` follows: old turns, breakpoints.

Decided by the sidecar's own cores, as a sidecar does that has just started: it has no summary yet, and no breakpoint
has lost money.
"""

from __future__ import annotations

from keelage_api.proxy_config import Rule
from keelage_sidecar.core.history import conversation
from keelage_sidecar.core.prompt_cache import Extent
from keelage_sidecar.core.prompt_cache_book import PromptCacheBook
from keelage_sidecar.core.request import Facts
from keelage_sidecar.core.routing import Candidate
from keelage_sidecar.core.summaries import Summaries, Wanted

_WHERE = {
    Extent.FIXED: "in tools, system and documents",
    Extent.TURNS: "in tools, system, documents and the newest turn",
}


def shortened(rule: Rule, facts: Facts) -> tuple[list[str], Facts]:
    """What becomes of its old turns, and the call without those that are not sent."""
    history = rule.history
    talk = conversation(facts, history.keep_turns) if history is not None else None
    if history is None or talk is None:
        return [], facts
    number = len(talk.cuttable)
    oldest = f"the {number} oldest turns" if number > 1 else "the oldest turn"
    kept = f"the newest {history.keep_turns} are sent as they are"
    found = Summaries().shorten(talk, history.summary, (rule.route, rule.name), 0.0)
    if isinstance(found, Wanted):
        assert history.summary is not None
        told = (
            f"history: a summary of {oldest} is asked of tier {history.summary.tier} first, and stands in its place"
            f" from then on; without one nothing does; {kept}"
        )
        return [told], found.otherwise.facts
    if not found.trimmed:
        return [f"history: {oldest} sent, too: short enough for that"], facts
    return [f"history: without {oldest}; {kept}"], found.facts


def marked(rule: Rule, candidate: Candidate, said: Facts) -> tuple[list[str], Facts]:
    """Where breakpoints go, and the call with them; `said` as the candidate gets it."""
    found = PromptCacheBook().marked(said, candidate, rule, 0.0)
    if found is None or found.extent is None:
        return [], said
    life = "1h" if rule.prompt_cache is not None and rule.prompt_cache.long else "5m"
    return [f"prompt cache: breakpoints for {life} {_WHERE[found.extent]}, where they are long enough"], found.facts
