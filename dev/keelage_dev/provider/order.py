"""A call of OpenAI's API that will be answered, and billed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from keelage_dev.provider import refusal
from keelage_dev.provider.bill import Rates
from keelage_dev.provider.exchange import SSE, Caller, Charge, Event, Reply
from keelage_dev.provider.fault import Fault
from keelage_dev.provider.usage import Usage

__all__ = ["Order"]


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for, with what it costs and what goes wrong with it."""

    body: Mapping[str, object]
    model: str
    rates: Rates
    fault: Fault

    def whole(self, caller: Caller, usage: Usage, sent: bytes) -> Reply:
        """One JSON document."""
        charges = (Charge(caller.key, self.model, self.rates.usd(usage)),)
        return Reply(200, sent, (("x-request-id", caller.request_id),), charges=charges, fault=self.fault)

    def stream(self, caller: Caller, usage: Usage, events: Iterable[Event]) -> Reply:
        """Events, each billed as it is generated."""
        return Reply(
            200,
            headers=(("x-request-id", caller.request_id),),
            content_type=SSE,
            events=tuple(events),
            charges=(Charge(caller.key, self.model, self.rates.usd(replace(usage, output=0))),),
            token_usd=self.rates.usd(Usage(output=1)),
            error_event=refusal.openai_error_event(),
            fault=self.fault,
        )
