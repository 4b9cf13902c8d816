"""A call as received to the facts that every later step decides on; the body is parsed once, here."""

from __future__ import annotations

import math
import re
from functools import lru_cache

import msgspec
import orjson

from keelage_api.proxy_config import Dialect
from keelage_sidecar.core.endpoints import CHAT, Endpoint, Kind
from keelage_sidecar.core.json_span import repeats_a_key
from keelage_sidecar.core.refusal import Headers, Refusal
from keelage_sidecar.core.weight import Weight, weigh

__all__ = ["NOBODY", "Facts", "Headers", "Workload", "read_request"]

USER_HEADER = b"x-keelage-user"
_NAME_MAX = 256
"""Characters of a model, user or feature: what a log line and a metric label can bear."""


class Facts(msgspec.Struct, frozen=True, gc=False):
    endpoint: Endpoint
    model: str
    """As asked for; empty for endpoints without one."""
    stream: bool
    max_output: int
    """Cap on output tokens that the request names; 0 where it names none (see `capped`)."""
    user: str
    feature: str
    body: bytes
    """As received."""
    parsed: dict[str, object]
    """The body without what is in `weight` already: a call may last for minutes. Empty where no body is read."""
    patience_s: float | None
    """How long the application will wait, as its SDK says; None where it does not."""
    retry_count: int
    """The SDK's own retries before this request."""
    asked_usage: bool
    """The application wants usage in the stream itself, so the chunk is not to be stripped."""
    capped: bool = False
    """The request names a cap, which may be 0 (a call that only warms the prompt cache)."""
    weight: Weight = msgspec.field(default_factory=Weight)
    long_context: bool = False
    """A beta header widens the model's context window, so the usual one bounds nothing."""
    pod: str = ""
    """Where the sidecar runs: for limits that hold per pod."""
    task_type: str = ""
    headers: Headers = ()
    """As received, with names in lower case."""
    path: str = ""
    """Of the call, without query; empty where nobody asked by one."""


class Workload(msgspec.Struct, frozen=True, gc=False):
    """The pod that the application runs in, for what its calls do not say themselves."""

    user: str = ""
    feature: str = ""
    task_type: str = ""
    pod: str = ""
    """Its name."""


NOBODY = Workload()


def read_request(
    endpoint: Endpoint,
    headers: Headers,
    body: bytes,
    workload: Workload = NOBODY,
    target: str = "",
) -> Facts | Refusal:
    """Facts, or a 400 that names the field; any bytes yield one of the two. `target`: the call's path and query.

    User: `x-keelage-user`, else the body's own field, else the workload's (the pod's label).
    Feature and type of task: `x-keelage-feature` and `x-keelage-task-type`, else the workload's.
    """
    said = _said(headers)
    user, feature, task = said.user, said.feature or workload.feature, said.task_type or workload.task_type
    path = target.partition("?")[0]
    if not endpoint.has_model:
        return Facts(
            endpoint,
            "",
            False,
            0,
            user or workload.user,
            feature,
            body,
            {},
            said.patience_s,
            said.retry_count,
            asked_usage=True,
            pod=workload.pod,
            task_type=task,
            headers=headers,
            path=path,
        )

    if said.misread is not None:
        return said.misread
    if len(body) > 2 * _VALUES_MAX and _countless(body):  # a value takes two bytes, with the mark before it
        return Refusal(413, "RequestTooLarge", f"the body holds more than {_VALUES_MAX} JSON values: send fewer")
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return _bad("", f"the body is not JSON: {error.msg[:120]} at byte {error.pos}")
    if not isinstance(parsed, dict):
        return _bad("", "the body is not a JSON object")
    model = parsed.get("model")
    nameless = model is None and endpoint.may_leave_model_out
    if nameless:
        model = ""
    if not isinstance(model, str) or not (model or nameless) or len(model) > _NAME_MAX:
        return _bad("model", f"a string of 1 to {_NAME_MAX} characters is needed")
    stream = parsed.get("stream")
    if stream is not None and not isinstance(stream, bool):
        return _bad("stream", "true or false is needed")
    if not parsed.keys() <= _KNOWN:
        for name in parsed:
            if name not in _FIELDS and (folded := name.casefold()) in _FIELDS:
                return _bad(name[:_NAME_MAX], f"some servers read it as {folded!r}: write it so")
    weight = weigh(endpoint.kind, parsed)
    if repeats_a_key(body, weight.keys):
        return _bad("", "the body names a key twice in one object, and parsers differ on which one counts: send one")
    max_output, capped = 0, False
    for name in CAP_FIELDS.get(endpoint.kind, ()):
        cap = parsed.get(name)
        if cap is None:
            continue
        least = 0 if endpoint.kind is Kind.MESSAGES else 1  # 0 warms the cache there; elsewhere it may mean no cap
        if isinstance(cap, bool) or not isinstance(cap, int) or cap < least:
            return _bad(name, f"a whole number of at least {least} is needed")
        max_output, capped = max(max_output, cap), True
    user = user or _user_of(endpoint, parsed) or workload.user
    asked_usage = endpoint is not CHAT or _asked_usage(parsed)
    for name in _WEIGHED & parsed.keys():
        del parsed[name]
    return Facts(
        endpoint,
        model,
        stream is True and endpoint.generates,
        max_output,
        user,
        feature,
        body,
        parsed,
        said.patience_s,
        said.retry_count,
        asked_usage,
        capped,
        weight,
        said.widens,
        workload.pod,
        task,
        headers,
        path,
    )


class _Said(msgspec.Struct, frozen=True, gc=False):
    """What the headers say."""

    user: str
    feature: str
    task_type: str
    patience_s: float | None
    retry_count: int
    misread: Refusal | None
    """Why the provider may read other JSON in the body than we do."""
    widens: bool


HEADS_MAX = 64
"""Heads that are remembered with what was read in them: an SDK sends the same one with nearly every call. At
`Limits.head_bytes` that is 4 MiB, as sent by SDKs 64 KiB."""


@lru_cache(maxsize=HEADS_MAX)
def _said(headers: Headers) -> _Said:
    given = dict(headers)
    return _Said(
        _label(given.get(USER_HEADER, b"")),
        _label(given.get(b"x-keelage-feature", b"")),
        _label(given.get(b"x-keelage-task-type", b"")),
        _seconds(given.get(b"x-stainless-read-timeout")) or _seconds(given.get(b"x-stainless-timeout")),
        _count(given.get(b"x-stainless-retry-count")),
        _misread(headers),
        _widens(headers),
    )


CAP_FIELDS: dict[Kind, tuple[str, ...]] = {
    Kind.MESSAGES: ("max_tokens",),
    Kind.CHAT: ("max_completion_tokens", "max_tokens"),
    Kind.RESPONSES: ("max_output_tokens",),
}
"""Where a request may name its output cap; the greatest counts."""


_FIELDS = frozenset(
    {
        "model", "models", "messages", "input", "system", "stream", "stream_options", "max_tokens",
        "max_completion_tokens", "max_output_tokens", "n", "best_of", "tools", "functions", "prediction", "thinking",
        "service_tier", "speed", "inference_geo", "modalities", "audio", "plugins", "container", "fallbacks",
        "previous_response_id", "conversation", "prompt", "background", "context_management", "reasoning",
    }
)  # fmt: skip
"""Top-level fields that the cost depends on. Servers written in Go take any case of them (encoding/json)."""


_KNOWN = _FIELDS | {
    "metadata", "temperature", "top_p", "top_k", "stop", "stop_sequences", "tool_choice", "response_format", "user",
    "safety_identifier", "seed", "store", "reasoning_effort", "output_config", "encoding_format", "dimensions",
    "frequency_penalty", "presence_penalty", "parallel_tool_calls", "logprobs", "cache_control", "context_management",
}  # fmt: skip
"""Fields that are what they look like; the usual request has no others, so that none of its own is looked at."""
_WEIGHED = frozenset({"messages", "input", "system", "tools", "functions", "prediction", "metadata"})
_VALUES_MAX = 500_000
"""Of a body. Each takes up to a hundred bytes once parsed; the most that providers take are 300,000 tokens to embed."""
_MARK = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[,\[{]', re.DOTALL)


def _countless(body: bytes) -> bool:
    """Whether more values than VALUES_MAX are in it, by the marks before them; those in strings are no marks."""
    # `replace` finds by memchr, `count` looks at each byte: 0.1 ms for 1 MB against 1 ms.
    if sum(len(body) - len(body.replace(mark, b"", _VALUES_MAX + 1)) for mark in (b",", b"[", b"{")) <= _VALUES_MAX:
        return False
    marks = 0
    for token in _MARK.finditer(body):
        if body[token.start()] != 0x22:
            marks += 1
            if marks > _VALUES_MAX:
                return True
    return False


def _misread(headers: Headers) -> Refusal | None:
    """Why the provider may read other JSON in the body than we do; None: it will not."""
    for name, value in headers:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            return _bad("content-encoding", "the body is compressed, so it cannot be read: send it without one")
        if name == b"content-type":
            kind, *parameters = value.lower().split(b";")
            if kind.strip().startswith((b"multipart/", b"application/x-www-form-urlencoded")):
                return _bad("content-type", "the body is a form: send application/json")
            for parameter in parameters:
                what, _, said = parameter.partition(b"=")
                if what.strip() == b"charset" and said.strip(b' \t"') not in (b"utf-8", b"utf8", b"us-ascii"):
                    return _bad("content-type", "JSON is sent in UTF-8: leave the charset out")
    return None


def _bad(field_name: str, remedy: str) -> Refusal:
    return Refusal(400, "BadRequest", f"{field_name}: {remedy}" if field_name else remedy, field_name)


def _widens(headers: Headers) -> bool:
    """Whether a beta such as `context-1m-2025-08-07` is asked for; `context-management-…` is another thing."""
    betas = [beta.strip() for name, value in headers if name == b"anthropic-beta" for beta in value.split(b",")]
    return any(beta.startswith(b"context-") and not beta.startswith(b"context-management") for beta in betas)


def _asked_usage(parsed: dict[str, object]) -> bool:
    """True also where the field is malformed: then it goes on as it is, and the provider says so."""
    options = parsed.get("stream_options")
    if options is None:
        return False
    return not isinstance(options, dict) or options.get("include_usage") not in (None, False)


def _user_of(endpoint: Endpoint, parsed: dict[str, object]) -> str:
    if endpoint.dialect is Dialect.ANTHROPIC:
        metadata = parsed.get("metadata")
        return _name(metadata.get("user_id")) if isinstance(metadata, dict) else ""
    return _name(parsed.get("safety_identifier")) or _name(parsed.get("user"))


def _name(value: object) -> str:
    return _clean(value) if isinstance(value, str) else ""


def _label(raw: bytes) -> str:
    return _clean(raw.decode("utf-8", "replace"))


def _clean(text: str) -> str:
    text = text[:_NAME_MAX]
    return (text if text.isprintable() else "".join(c for c in text if c.isprintable())).strip()


def _seconds(raw: bytes | None) -> float | None:
    """A positive number of seconds; SDKs also send the text `NOT_GIVEN`."""
    try:
        value = float(raw) if raw is not None else 0.0
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def _count(raw: bytes | None) -> int:
    return int(raw) if raw is not None and raw.isascii() and raw.isdigit() and len(raw) < 6 else 0
