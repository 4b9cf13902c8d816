"""What is sent upstream: the application's bytes, but for the few top-level fields and headers that must differ."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import urlsplit

import msgspec
import orjson

from keelage_api.proxy_config import Backend, Dialect, Provider
from keelage_sidecar.core.endpoints import Kind
from keelage_sidecar.core.forwarded import forwarded
from keelage_sidecar.core.json_span import appended, splice
from keelage_sidecar.core.prompt_cache_key import NAME as CACHE_KEY
from keelage_sidecar.core.prompt_cache_key import key_for
from keelage_sidecar.core.refusal import Headers
from keelage_sidecar.core.request import CAP_FIELDS, Facts
from keelage_sidecar.core.routing import Candidate
from keelage_sidecar.core.translation.model_traits import chat_traits


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    method: str
    target: str
    """Path with the backend's prefix, and query: the request line's second word."""
    headers: list[tuple[bytes, bytes]]
    """Complete, `host` and `content-length` included."""
    body: bytes
    changed: tuple[str, ...] = ()
    """Top-level fields that differ from the application's; for the log line."""

    def with_key(self, backend: Backend, secret: str) -> Outgoing:
        """The same with another key."""
        name, value = _key_header(backend, secret)
        headers = [(each, value if each == name else said) for each, said in self.headers]
        return msgspec.structs.replace(self, headers=headers)


def outgoing(
    facts: Facts,
    candidate: Candidate,
    output_cap: int,
    secret: str | None,
    headers: Headers,
    path_query: str,
    method: str = "POST",
) -> Outgoing:
    """The request for that candidate; `secret` is the provider's key, None where the backend takes none.

    `output_cap`: the most that may be generated; 0: as the request says. It never raises the request's own cap.
    """
    changes = _changes(facts, candidate, output_cap)
    body = _changed(facts, changes) if changes else facts.body
    host, target = _address(candidate.backend.endpoint, path_query)
    return Outgoing(
        method, target, _headers(candidate, secret, headers, host, body, method), body, tuple(sorted(changes))
    )


def _changed(facts: Facts, changes: dict[str, bytes]) -> bytes:
    """What the body lacks goes to its end, for which nothing in it needs to be located."""
    if changes.keys().isdisjoint(facts.parsed):
        return appended(facts.body, [b'"%b":%b' % (name.encode(), value) for name, value in changes.items()])
    return splice(facts.body, changes)


def _changes(facts: Facts, candidate: Candidate, output_cap: int) -> dict[str, bytes]:
    """Top-level fields to set, as JSON."""
    if not facts.endpoint.has_model:
        return {}
    changes: dict[str, bytes] = {}
    if candidate.model != facts.model:
        changes["model"] = orjson.dumps(candidate.model)
    if output_cap and facts.capped:
        for name in CAP_FIELDS.get(facts.endpoint.kind, ()):
            own = facts.parsed.get(name)
            if isinstance(own, int) and own > output_cap:
                changes[name] = str(output_cap).encode()
    elif output_cap and facts.endpoint.generates:
        # Reasoning models of OpenAI refuse the older name of a chat's cap, most compatible servers know no other.
        names = CAP_FIELDS[facts.endpoint.kind]
        changes[names[0 if candidate.backend.provider is Provider.OPENAI else -1]] = str(output_cap).encode()
    if candidate.stop_sequences and (stops := _stops(facts, candidate)) is not None:
        changes[_STOP_FIELDS[facts.endpoint.kind]] = stops
    if candidate.cache_scope and facts.endpoint.generates and (key := key_for(facts, candidate.cache_scope)):
        changes[CACHE_KEY] = orjson.dumps(key)
    if facts.endpoint.kind is Kind.CHAT and facts.stream and not facts.asked_usage:
        options = facts.parsed.get("stream_options")
        given = options if isinstance(options, dict) else {}
        changes["stream_options"] = orjson.dumps({**given, "include_usage": True})
    provider = candidate.backend.provider
    tiered = candidate.hard and facts.endpoint.generates and provider is not Provider.OPENAI_COMPATIBLE
    if tiered and facts.parsed.get("service_tier") in (None, "auto"):
        # Unset, the provider's project or workspace decides, and may choose a dearer one.
        changes["service_tier"] = b'"standard_only"' if provider is Provider.ANTHROPIC else b'"default"'
    return changes


_STOP_FIELDS = {Kind.MESSAGES: "stop_sequences", Kind.CHAT: "stop"}
"""A Responses call has no such field."""
_STOPS_OF_CHAT = 4
"""OpenAI takes no more; Anthropic documents no limit."""


def _stops(facts: Facts, candidate: Candidate) -> bytes | None:
    """The request's stop sequences with the rule's behind them; None: they stay as they are.

    What a provider would refuse for them is left out: a call that works without them must not fail with them.
    """
    kind = facts.endpoint.kind
    if kind not in _STOP_FIELDS:
        return None
    said = facts.parsed.get(_STOP_FIELDS[kind])
    own = [said] if isinstance(said, str) else [] if said is None else said
    if not isinstance(own, list):
        return None
    more = [each for each in candidate.stop_sequences if each not in own]
    if kind is Kind.CHAT:
        takes = chat_traits(candidate.model, candidate.backend.provider).stop
        more = more[: max(0, _STOPS_OF_CHAT - len(own))] if takes else []
    return orjson.dumps(own + more) if more else None


def _headers(
    candidate: Candidate, secret: str | None, headers: Headers, host: bytes, body: bytes, method: str
) -> list[tuple[bytes, bytes]]:
    sent = [(b"host", host), *forwarded(headers), (b"accept-encoding", b"identity")]
    if secret:
        sent.append(_key_header(candidate.backend, secret))
    if body or method in ("POST", "PUT", "PATCH"):
        sent.append((b"content-length", b"%d" % len(body)))
    return sent


@lru_cache(maxsize=256)
def _address(endpoint: str, path_query: str) -> tuple[bytes, str]:
    """Host header and request target for a backend such as `https://host:8443/prefix`.

    A prefix that already ends in `/v1` is not followed by another: both forms are common in manifests.
    """
    parts = urlsplit(endpoint)
    prefix = parts.path.rstrip("/")
    if prefix.endswith("/v1") and path_query.startswith("/v1/"):
        prefix = prefix[:-3]
    host = parts.netloc.rpartition("@")[2]
    default = ":443" if parts.scheme == "https" else ":80"
    return host.removesuffix(default).encode("ascii", "replace"), prefix + path_query


def _key_header(backend: Backend, secret: str) -> tuple[bytes, bytes]:
    """A key file often ends in a newline; nothing in it may end the header."""
    key = "".join(secret.split()).encode("latin-1", "replace")
    return (b"x-api-key", key) if backend.dialect is Dialect.ANTHROPIC else (b"authorization", b"Bearer " + key)
