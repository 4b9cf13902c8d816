"""What a batch cost, by its results: one JSON line for each request, in any order.

    {"custom_id": "a", "result": {"type": "succeeded", "message": {"usage": …, …}}}

What errored, expired or was cancelled is not billed. A lot whose results leave a doubt (a line that is
missing, unreadable, doubled or of no request of it, a message without usage) is charged at its bound, or at
what the lines prove where that is more.
"""

from __future__ import annotations

import orjson
from msgspec import structs

from keelage_api.usage import TokenUsage
from keelage_sidecar.core.batch import Lot, LotIndex, digest_of
from keelage_sidecar.core.claim import NOTHING
from keelage_sidecar.core.meter import PLAIN_BYTES_MAX
from keelage_sidecar.core.settlement import Settlement, each_unit, known, used
from keelage_sidecar.core.usage_fold import anthropic_usage, tells_output

_UNBILLED = ("errored", "canceled", "expired")


class LotSettlement(Settlement, frozen=True, gc=False):
    """What one lot is charged; doubtful: at its bound, for lack of evidence."""

    usage: TokenUsage | None = None
    """All its results together; None where none was read."""


def at_bound(lots: tuple[Lot, ...]) -> tuple[LotSettlement, ...]:
    """What lots are charged of whose results nothing is known, nor will be."""
    return tuple(
        LotSettlement(lot.worst, doubtful=True, uncertain=structs.replace(lot.worst, requests=0)) for lot in lots
    )


def unbilled(lots: tuple[Lot, ...]) -> tuple[LotSettlement, ...]:
    """What lots are charged that were never created."""
    return tuple(LotSettlement(NOTHING) for _ in lots)


class BatchTally:
    """Reads the results while they pass; `settlements` once they have ended."""

    def __init__(self, lots: tuple[Lot, ...], index: LotIndex) -> None:
        self._lots = lots
        self._index = index
        self._seen = [0] * len(lots)
        self._sums = [0] * len(lots)
        self._proven = [NOTHING] * len(lots)
        self._usage = [TokenUsage()] * len(lots)
        self._doubtful = [False] * len(lots)
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> None:
        """The next bytes; lines may be cut anywhere."""
        *lines, rest = chunk.split(b"\n")
        if lines:
            self._line(bytes(self._rest + lines[0]))
            self._rest.clear()
            for line in lines[1:]:
                self._line(line)
        if len(self._rest) + len(rest) <= PLAIN_BYTES_MAX:
            self._rest += rest
        else:  # cut short, it is no JSON any more, so its lot lacks a result
            self._rest[:] = b"!"

    def finish(self) -> None:
        """After the last byte: the last line may lack its newline."""
        self._line(bytes(self._rest))
        self._rest.clear()

    def settlements(self) -> tuple[LotSettlement, ...]:
        """For each lot."""
        return tuple(self._settlement(number, lot) for number, lot in enumerate(self._lots))

    def _settlement(self, number: int, lot: Lot) -> LotSettlement:
        proven, worst = self._proven[number], lot.worst
        # As many as there were, and the same: neither one twice nor a stranger stands for one that is missing.
        whole = self._seen[number] == lot.requests and self._sums[number] == self._index.sums[number]
        doubtful = self._doubtful[number] or not whole
        violated = lot.bounded and (
            proven.tokens > worst.tokens or (lot.bound.priced and proven.picodollars > worst.picodollars)
        )
        charge = structs.replace(proven, requests=lot.requests)
        charged = each_unit(max, charge, worst) if doubtful else charge
        return LotSettlement(
            charged,
            violated,
            doubtful,
            charged.less(known(charge, lot.candidate)),
            self._usage[number] if self._seen[number] else None,
        )

    def _line(self, line: bytes) -> None:
        answer = _object(line)
        name, result = answer.get("custom_id"), answer.get("result")
        if not isinstance(name, str) or not isinstance(result, dict):
            return
        number = self._index.lot_of(name)
        self._seen[number] += 1
        self._sums[number] += digest_of(name)
        if result.get("type") in _UNBILLED:
            return
        message = result.get("message")
        raw = message.get("usage") if isinstance(message, dict) else None
        if result.get("type") != "succeeded" or not isinstance(raw, dict) or not tells_output(raw):
            self._doubtful[number] = True
            return
        lot = self._lots[number]
        usage = anthropic_usage(raw, lot.cached_long)
        if not usage.prompt_tokens or (lot.candidate.price or lot.candidate.dearest) is None:
            self._doubtful[number] = True  # every call has input: what counts none was not counted
        self._proven[number] = self._proven[number].plus(used(usage, lot.candidate, batch=True))
        self._usage[number] = _sum(self._usage[number], usage)


def _sum(one: TokenUsage, other: TokenUsage) -> TokenUsage:
    """Counts added; the inferences beside the totals are counted with them."""
    total = TokenUsage(
        one.input_tokens + other.input_tokens,
        one.cache_read_tokens + other.cache_read_tokens,
        one.cache_write_5m_tokens + other.cache_write_5m_tokens,
        one.cache_write_1h_tokens + other.cache_write_1h_tokens,
        one.output_tokens + other.output_tokens,
        one.reasoning_tokens + other.reasoning_tokens,
        one.web_searches + other.web_searches,
    )
    for _, inference in other.extra:
        total = _sum(total, inference)
    return total


def _object(line: bytes) -> dict[str, object]:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
