"""Which calls may be answered with a kept answer, and which of them are the same call."""

from __future__ import annotations

import hashlib

import msgspec

from keelage_api.proxy_config import ModelChoice, OnClientDisconnect, ProxyConfig, Retry, Rule
from keelage_api.response_cache import CacheScope, ResponseCache
from keelage_api.selection import When
from keelage_sidecar.core.endpoints import Kind
from keelage_sidecar.core.forwarded import telling
from keelage_sidecar.core.refusal import Headers
from keelage_sidecar.core.request import USER_HEADER, Facts

_CACHED = (Kind.MESSAGES, Kind.CHAT, Kind.RESPONSES, Kind.EMBEDDINGS)
_ELSEWHERE = frozenset(
    {
        "mcp_servers", "container", "thread", "web_search_options", "search_parameters", "plugins", "audio",
        "previous_response_id", "conversation", "prompt", "background",
    }
)  # fmt: skip
"""With these the answer depends on what is not in the request, or the call does more than answer."""
_SAYS_WHO: dict[Kind, tuple[str, ...]] = {
    Kind.CHAT: ("user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
    Kind.EMBEDDINGS: ("user",),
}
"""Fields that change nothing about the answer. A Response repeats its request's, so there all of them count."""

# Numbers stay as they were written: two that a float cannot tell apart are two calls.
_DECODER = msgspec.json.Decoder(dict[str, object], float_hook=msgspec.Raw)
_ENCODER = msgspec.json.Encoder(order="sorted")


def salt_of(config: ProxyConfig, rule: Rule, terms: ResponseCache) -> bytes:
    """Of all that a rule's answers depend on in the configuration: when it changes, every call is a new one.

    Rules that share by namespace have one salt where they ask the same models in the same way, whatever their names.
    """
    own = f"{rule.route}/"
    tiers = {
        name.removeprefix(own): _asked(config, choices)
        for name, choices in config.tiers.items()
        if name.startswith(own)
    }
    way = msgspec.structs.replace(
        rule,
        route="",
        name="",
        choices=(),
        matches=(),
        retry=Retry(),
        hedge=None,
        on_client_disconnect=OnClientDisconnect.ABORT,
        clamp_at_least=0,
        prompt_cache=None,
        response_cache=None,
    )
    who = () if terms.scope is CacheScope.NAMESPACE else (rule.route, rule.name)
    return hashlib.sha256(_ENCODER.encode((terms.scope, who, way, _asked(config, rule.choices), tiers))).digest()


def changing_of(rule: Rule) -> tuple[When, ...]:
    """What of the rule's selection depends on the hour and on how far budgets are used: the same call has another
    answer once that changes (`selection.moment`)."""
    alone = (When(time_window=each.when.time_window, budget_used=each.when.budget_used) for each in rule.select)
    return tuple(when for when in alone if when.time_window is not None or when.budget_used is not None)


def _asked(config: ProxyConfig, choices: tuple[ModelChoice, ...]) -> list[tuple[str, str, str, int | None]]:
    """Whom a tier asks, without the names that a route has for them."""
    backends = [config.backends[choice.backend] for choice in choices]
    return [
        (backend.provider, backend.endpoint, choice.model, choice.weight)
        for backend, choice in zip(backends, choices, strict=True)
    ]


def never_cached(facts: Facts, terms: ResponseCache) -> str:
    """Why the call is not answered from the cache, for people; empty: it may be."""
    if facts.endpoint.kind not in _CACHED:
        return "answers of this endpoint are not kept"
    if terms.scope is CacheScope.USER and not facts.user:
        return "the rule's cache is kept for each user, and the call names none: set x-keelage-user"
    body = facts.parsed
    if facts.weight.unbounded is not None or facts.weight.unread or not _ELSEWHERE.isdisjoint(body):
        return "its answer depends on more than the request: on tools or contents at the provider"
    if body.get("store", facts.endpoint.kind is Kind.RESPONSES):
        return "it leaves a copy at the provider: send `store: false`"
    if not terms.sampled and facts.endpoint.generates and not _is_zero(body.get("temperature")):
        return "its answer is drawn at random: send `temperature: 0`, or set responseCache.sampled: Allow"
    return ""


def key_of(salt: bytes, terms: ResponseCache, facts: Facts, target: str, headers: Headers) -> bytes | None:
    """32 bytes that two calls share if, and only if, the answer to one is an answer to the other.

    The body counts as JSON: blanks and the order of keys do not matter, every other difference does. None: it cannot
    be told (it nests too deep).
    """
    body = body_of(facts)
    return None if body is None else digest_of(salt, terms, facts, target, headers, body)


def body_of(facts: Facts) -> dict[str, object] | None:
    """The body with its numbers as they were written; None: it nests too deep."""
    try:
        return _DECODER.decode(facts.body)
    except (msgspec.DecodeError, RecursionError):
        return None


def digest_of(
    salt: bytes, terms: ResponseCache, facts: Facts, target: str, headers: Headers, body: dict[str, object]
) -> bytes:
    """Of all that the answer depends on, `body` in the place of the call's own. Forgets in it who asks."""
    # As it was sent: what a user is called in the log is cut, and the same for names that cannot be printed.
    by_user = terms.scope is CacheScope.USER
    named = b",".join([value for name, value in headers if name == USER_HEADER]) if by_user else b""
    if named or not by_user:
        _forget_who(body, facts.endpoint.kind)
    # None of these holds the end of a line, so that no two lists of them read the same.
    lines = [target.encode(), facts.feature.encode(), facts.task_type.encode()]
    lines += (facts.user.encode(), named) if by_user else (b"", b"")
    lines += [b"%b: %b" % field for field in telling(headers)]
    lines.append(b"")
    return hashlib.sha256(b"\n".join((salt + b"\n".join(lines), _ENCODER.encode(body)))).digest()


def _forget_who(body: dict[str, object], kind: Kind) -> None:
    for name in _SAYS_WHO.get(kind, ()):
        body.pop(name, None)
    if kind is Kind.MESSAGES and isinstance(who := body.get("metadata"), dict):
        who.pop("user_id", None)
        if not who:
            del body["metadata"]


def _is_zero(value: object) -> bool:
    return value == 0 and not isinstance(value, bool)
