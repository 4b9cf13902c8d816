"""The fake provider without its sockets: a request in, a reply out, and the state in between."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

import orjson

from keelage_dev.provider import batch, chat, embedding, messages, refusal, responses
from keelage_dev.provider.batch import Batch, Batches
from keelage_dev.provider.bill import DEAREST, Bill, PriceList, Rates
from keelage_dev.provider.body import mapping, parsed, text
from keelage_dev.provider.exchange import JSONL, SSE, Caller, Charge, Reply, Request
from keelage_dev.provider.fault import NONE, BadFault, Fault, parse
from keelage_dev.provider.order import Order
from keelage_dev.provider.record import Record
from keelage_dev.provider.settings import Settings, changed
from keelage_dev.provider.usage import PromptCache, Usage

__all__ = ["Service"]

BATCH_DISCOUNT = Decimal("0.5")
ANTHROPIC_HEADERS = (
    ("anthropic-organization-id", "00000000-0000-4000-8000-00000000fa4e"),
    *(
        (f"anthropic-ratelimit-{what}-{part}", value)
        for what, limit, left in (
            ("requests", "4000", "3999"),
            ("tokens", "480000", "479000"),
            ("input-tokens", "400000", "399000"),
            ("output-tokens", "80000", "80000"),
        )
        for part, value in (("limit", limit), ("remaining", left), ("reset", "2026-01-01T00:00:01Z"))
    ),
)
OPENAI_HEADERS = (
    ("openai-organization", "org-fake"),
    ("openai-version", "2020-10-01"),
    ("openai-processing-ms", "1"),
    ("x-ratelimit-limit-requests", "10000"),
    ("x-ratelimit-remaining-requests", "9999"),
    ("x-ratelimit-reset-requests", "6ms"),
    ("x-ratelimit-limit-tokens", "2000000"),
    ("x-ratelimit-remaining-tokens", "1999000"),
    ("x-ratelimit-reset-tokens", "30ms"),
)


@dataclass(slots=True)
class Service:
    """`keys` maps each accepted key to the name it has on the bill; empty: any key will do."""

    keys: Mapping[str, str] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)
    bill: Bill = field(default_factory=Bill)
    record: deque[Record] = field(default_factory=deque)
    clock: Callable[[], float] = time.monotonic
    _first_settings: Settings = field(init=False)
    _cache: PromptCache = field(init=False)
    _batches: Batches = field(default_factory=Batches)
    _stored: responses.Stored = field(default_factory=responses.Stored)
    _schedule: deque[Fault] = field(default_factory=deque)
    _model_faults: dict[str, Fault] = field(default_factory=dict)
    _made: int = 0

    def __post_init__(self) -> None:
        self._first_settings, self._cache = self.settings, PromptCache(self.clock)
        self.configure({})

    def configure(self, changes: Mapping[str, object]) -> None:
        """Change settings; a new schedule replaces what is left of the old. Raises BadSetting, BadFault."""
        settings = changed(self.settings, changes)
        if "schedule" in changes or not changes:
            schedule = deque(parse(each) for each in settings.schedule)
        else:
            schedule = self._schedule
        self._model_faults = {model: parse(each) for model, each in settings.model_faults.items()}
        self._schedule, self.settings = schedule, settings

    def reset(self) -> None:
        """Back to the start: settings, bill, record, prompt cache, batches. Ids go on."""
        self.settings = self._first_settings
        self.bill, self._cache = Bill(), PromptCache(self.clock)
        self._batches, self._stored = Batches(), responses.Stored()
        self.record.clear()
        self.configure({})

    def charge(self, charge: Charge) -> None:
        """Put an amount on the bill."""
        self.bill.charge(charge.key, charge.model, charge.usd, new_call=charge.new_call)

    def answer(self, request: Request) -> Reply:
        """Decide on the reply; charges are in it and not yet on the bill, but for batches that end."""
        self._made += 1
        secret, dialect = _credentials(request)
        key = self._key_name(secret)
        self._keep(request, key or "")
        caller = Caller(key or "", f"req_fake{self._made:08d}")
        if key is None:
            if dialect == "anthropic":
                wrong = "invalid x-api-key" if secret else "x-api-key header is required"
                return refusal.anthropic(401, wrong, caller)
            wrong = "Incorrect API key provided." if secret else "You didn't provide an API key."
            return refusal.openai(401, wrong, caller, code="invalid_api_key" if secret else None)
        if request.too_large:
            return refusal.faulty(dialect, caller, Fault(status=413))
        reply = self._route(request, caller, dialect)
        common = ANTHROPIC_HEADERS if dialect == "anthropic" else OPENAI_HEADERS
        return replace(reply, headers=(*reply.headers, *common))

    def _route(self, request: Request, caller: Caller, dialect: str) -> Reply:
        handlers: Mapping[tuple[str, str], Callable[[Request, Caller], Reply]] = {
            ("POST", "/v1/messages"): self._messages,
            ("POST", "/v1/messages/count_tokens"): self._count_tokens,
            ("POST", "/v1/messages/batches"): self._create_batch,
            ("GET", "/v1/messages/batches"): self._list_batches,
            ("POST", "/v1/chat/completions"): self._chat,
            ("POST", "/v1/responses"): self._responses,
            ("POST", "/v1/embeddings"): self._embeddings,
        }
        path = request.path.rstrip("/")
        if (handler := handlers.get((request.method, path))) is not None:
            return handler(request, caller)
        if request.method == "GET" and (path == "/v1/models" or path.startswith("/v1/models/")):
            return self._models(path.removeprefix("/v1/models").lstrip("/"), caller, dialect)
        if path.startswith("/v1/messages/batches/"):
            return self._one_batch(request, caller, path.removeprefix("/v1/messages/batches/"))
        if path.startswith("/v1/responses/"):
            return self._one_response(request, caller, path.removeprefix("/v1/responses/"))
        known = any(each == path for _, each in handlers)
        status, wrong = (405, "Method Not Allowed") if known else (404, f"Not found: {request.method} {path}")
        if dialect == "anthropic":
            return refusal.anthropic(status, wrong, caller, kind="" if status == 404 else "invalid_request_error")
        return refusal.openai(status, wrong, caller, kind="invalid_request_error")

    # Anthropic

    def _messages(self, request: Request, caller: Caller) -> Reply:
        body = parsed(request.body)
        if body is None:
            return refusal.anthropic(400, "The request body is not valid JSON.", caller)
        model = text(body.get("model"))
        fault = self._fault(request, model)
        if isinstance(fault, str):
            return refusal.anthropic(400, fault, caller)
        if fault.status:
            return replace(refusal.faulty("anthropic", caller, fault), fault=fault)
        wrong = messages.complaint(body, request.headers.get("anthropic-version", ""))
        if wrong is not None:
            return refusal.anthropic(400, wrong, caller)
        rates = self._rates(model)
        if rates is None:
            return refusal.anthropic(404, f"model: {model}", caller)
        said, usage = messages.run(body, self.settings, self._cache)
        headers = (("request-id", caller.request_id),)
        if body.get("stream") is not True:
            sent = messages.message(body, said, usage, self._made)
            charges = (Charge(caller.key, model, rates.usd(usage)),)
            return Reply(200, sent, headers, charges=charges, fault=fault)
        return Reply(
            200,
            headers=headers,
            content_type=SSE,
            events=tuple(messages.events(body, said, usage, self._made)),
            charges=(Charge(caller.key, model, rates.usd(replace(usage, output=0))),),
            token_usd=rates.usd(Usage(output=1)),
            error_event=refusal.anthropic_error_event(),
            fault=fault,
        )

    def _count_tokens(self, request: Request, caller: Caller) -> Reply:
        body = parsed(request.body)
        if body is None:
            return refusal.anthropic(400, "The request body is not valid JSON.", caller)
        wrong = messages.complaint(body, request.headers.get("anthropic-version", ""), counting=True)
        if wrong is not None:
            return refusal.anthropic(400, wrong, caller)
        return Reply(200, messages.count(body), (("request-id", caller.request_id),))

    # Batches

    def _create_batch(self, request: Request, caller: Caller) -> Reply:
        body = parsed(request.body)
        fault = self._fault(request, "")
        if isinstance(fault, str):
            return refusal.anthropic(400, fault, caller)
        if fault.status:
            return replace(refusal.faulty("anthropic", caller, fault), fault=fault)
        wrong = "The request body is not valid JSON." if body is None else batch.complaint(body)
        if body is None or wrong is not None:
            return refusal.anthropic(400, wrong or "", caller)
        ready_s = self.clock() + self.settings.batch_s
        made = self._batches.create(body, caller.key, self.settings.batch_polls, ready_s)
        return replace(_batch_reply(made, request, caller), fault=fault)

    def _list_batches(self, request: Request, caller: Caller) -> Reply:
        views = [each.view(_host(request)) for each in self._batches.newest_first()]
        ends = {"first_id": views[0]["id"] if views else None, "last_id": views[-1]["id"] if views else None}
        sent = orjson.dumps({"data": views, "has_more": False} | ends)
        return Reply(200, sent, (("request-id", caller.request_id),))

    def _one_batch(self, request: Request, caller: Caller, rest: str) -> Reply:
        name, _, action = rest.partition("/")
        found = self._batches.find(name)
        if found is None:
            return refusal.anthropic(404, f"No message batch found with ID {name}", caller)
        match request.method, action:
            case "GET", "":
                if found.results is None and found.polls_left <= 0 and found.ready_s <= self.clock():
                    self._end_batch(found, request)
                found.polls_left -= 1
                return _batch_reply(found, request, caller)
            case "POST", "cancel":
                found.canceling = True
                return _batch_reply(found, request, caller)
            case "GET", "results" if found.results is not None:
                return self._results(found, request, caller)
            case "DELETE", "" if found.results is not None:
                self._batches.delete(name)
                sent = orjson.dumps({"id": name, "type": "message_batch_deleted"})
                return Reply(200, sent, (("request-id", caller.request_id),))
            case _:
                return refusal.anthropic(400, f"{name}: not possible before the batch has ended", caller)

    def _results(self, found: Batch, request: Request, caller: Caller) -> Reply:
        """As JSON lines; what goes wrong with them is told in the header only."""
        fault = self._fault(request, "") if "x-fake-fault" in request.headers else NONE
        if isinstance(fault, str):
            return refusal.anthropic(400, fault, caller)
        return Reply(200, found.lines(), (("request-id", caller.request_id),), content_type=JSONL, fault=fault)

    def _end_batch(self, found: Batch, request: Request) -> None:
        """Serve and bill every request of a batch at half price; a cancelled one is neither."""
        results: list[dict[str, object]] = []
        version = request.headers.get("anthropic-version", "")
        for entry in found.entries:
            params = {name: value for name, value in entry.params.items() if name != "stream"}
            model = text(params.get("model"))
            rates = self._rates(model)
            wrong = messages.complaint(params, version) or ("" if rates else f"model: {model}")
            result: dict[str, object]
            outcome = "canceled" if found.canceling else self.settings.batch_outcomes.get(entry.custom_id, "")
            if outcome in ("canceled", "expired"):
                result = {"type": outcome}
            elif outcome or wrong or rates is None:
                error = {"type": "invalid_request_error", "message": wrong or "told to fail"}
                result = {"type": "errored", "error": {"type": "error", "error": error, "request_id": None}}
            else:
                self._made += 1
                said, usage = messages.run(params, self.settings, self._cache)
                self.charge(Charge(found.key, model, rates.usd(usage) * BATCH_DISCOUNT))
                sent = dict(mapping(parsed(messages.message(params, said, usage, self._made))))
                sent["usage"] = dict(mapping(sent["usage"])) | {"service_tier": "batch"}
                result = {"type": "succeeded", "message": sent}
            results.append({"custom_id": entry.custom_id, "result": result})
        found.results = results

    # OpenAI

    def _chat(self, request: Request, caller: Caller) -> Reply:
        order = self._order(request, caller, chat.complaint)
        if isinstance(order, Reply):
            return order
        said, usage = chat.run(order.body, self.settings)
        if order.body.get("stream") is True:
            return order.stream(caller, usage, chat.events(order.body, said, usage, self._made))
        return order.whole(caller, usage, chat.completion(order.body, said, usage, self._made))

    def _responses(self, request: Request, caller: Caller) -> Reply:
        order = self._order(request, caller, responses.complaint)
        if isinstance(order, Reply):
            return order
        said, usage = responses.run(order.body, self.settings)
        made = responses.Made(order.body, said, usage, self._made)
        if order.body.get("store") is not False:
            self._stored.keep(made)
        if order.body.get("stream") is True:
            return order.stream(caller, usage, made.events())
        return order.whole(caller, usage, made.whole())

    def _one_response(self, request: Request, caller: Caller, rest: str) -> Reply:
        name, _, part = rest.partition("/")
        sent = self._stored.answer(request.method, name, part)
        if sent is None:
            return refusal.openai(404, f"Response with id '{name}' not found.", caller)
        return Reply(200, sent, (("x-request-id", caller.request_id),))

    def _embeddings(self, request: Request, caller: Caller) -> Reply:
        order = self._order(request, caller, embedding.complaint)
        if isinstance(order, Reply):
            return order
        sent, usage = embedding.embeddings(order.body, self.settings.vectors)
        return order.whole(caller, usage, sent)

    def _order(
        self, request: Request, caller: Caller, complaint: Callable[[Mapping[str, object]], chat.Complaint | None]
    ) -> Order | Reply:
        """What an OpenAI call asks for, or why it is refused."""
        body = parsed(request.body)
        if body is None:
            return refusal.openai(400, "We could not parse the JSON body of your request.", caller)
        model = text(body.get("model"))
        fault = self._fault(request, model)
        if isinstance(fault, str):
            return refusal.openai(400, fault, caller)
        if fault.status:
            return replace(refusal.faulty("openai", caller, fault), fault=fault)
        if (wrong := complaint(body)) is not None:
            return refusal.openai(400, wrong.message, caller, param=wrong.param, code=wrong.code)
        rates = self._rates(model)
        return _no_model(model, caller) if rates is None else Order(body, model, rates, fault)

    # Both

    def _models(self, name: str, caller: Caller, dialect: str) -> Reply:
        ours = [each for each in PriceList(self.settings.prices).models() if each.startswith("claude")]
        theirs = [each for each in PriceList(self.settings.prices).models() if not each.startswith("claude")]
        views: list[dict[str, object]]
        if dialect == "anthropic":
            views = [
                {"type": "model", "id": each, "display_name": each, "created_at": "2026-01-01T00:00:00Z"}
                | {"max_input_tokens": 200_000, "max_tokens": 64_000, "capabilities": None, "lifecycle": "active"}
                for each in ours
            ]
            sent = {"data": views, "has_more": False, "first_id": ours[0], "last_id": ours[-1]}
            header = "request-id"
        else:
            views = [{"id": each, "object": "model", "created": 1_760_000_000, "owned_by": "fake"} for each in theirs]
            sent = {"object": "list", "data": views}
            header = "x-request-id"
        if name:
            one = [view for view in views if view["id"] == name]
            if not one and dialect == "anthropic":
                return refusal.anthropic(404, f"model: {name}", caller)
            if not one:
                return _no_model(name, caller)
            sent = one[0]
        return Reply(200, orjson.dumps(sent), ((header, caller.request_id),))

    def _rates(self, model: str) -> Rates | None:
        """What a model costs; None if it is unknown and that matters."""
        rates = PriceList(self.settings.prices).rates(model)
        return rates if rates is not None or self.settings.strict_models else DEAREST

    def _fault(self, request: Request, model: str) -> Fault | str:
        """What goes wrong with this request, or why that cannot be read. The header comes before the schedule."""
        if (asked := request.headers.get("x-fake-fault")) is not None:
            try:
                return parse(asked)
            except BadFault as wrong:
                return f"x-fake-fault: {wrong}"
        if self._schedule and (scheduled := self._schedule.popleft()) != NONE:
            return scheduled
        return self._model_faults.get(model, NONE)

    def _key_name(self, secret: str) -> str | None:
        """The key's name on the bill; None when it is refused."""
        if not secret:
            return None
        if not self.keys:
            return f"key-{hashlib.sha256(secret.encode()).hexdigest()[:8]}"
        return self.keys.get(secret)

    def _keep(self, request: Request, key: str) -> None:
        self.record.append(Record.of(request, key))
        while len(self.record) > self.settings.requests_kept:
            self.record.popleft()


def _credentials(request: Request) -> tuple[str, str]:
    """The key as sent in either form, and whose API is spoken."""
    headers = request.headers
    anthropic = (
        request.path.startswith("/v1/messages") or "anthropic-version" in headers or "x-api-key" in headers
    ) and not request.path.startswith(("/v1/chat/", "/v1/responses", "/v1/embeddings"))
    secret = headers.get("x-api-key", "")
    if not secret:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        secret = given.strip() if scheme.lower() == "bearer" else ""
    return secret, "anthropic" if anthropic else "openai"


def _host(request: Request) -> str:
    return request.headers.get("host", "127.0.0.1")


def _batch_reply(found: Batch, request: Request, caller: Caller) -> Reply:
    return Reply(200, orjson.dumps(found.view(_host(request))), (("request-id", caller.request_id),))


def _no_model(model: str, caller: Caller) -> Reply:
    message = f"The model '{model}' does not exist or you do not have access to it."
    return refusal.openai(404, message, caller, code="model_not_found")
