"""Which API call this is, by method, path and dialect: an allowlist.

A path that is not listed may spend money in a way that no budget sees, so it is refused:
with a reason where the provider has such an endpoint, with the provider's own 404 where not.
"""

from __future__ import annotations

import enum
import re

import msgspec

from keelage_api.proxy_config import Dialect
from keelage_sidecar.core.refusal import Headers, Refusal


class Kind(enum.StrEnum):
    MESSAGES = "messages"
    COUNT_TOKENS = "count_tokens"
    CHAT = "chat"
    RESPONSES = "responses"
    STORED = "stored"
    """Reading, cancelling and deleting what a call has left at the provider."""
    EMBEDDINGS = "embeddings"
    MODELS = "models"
    BATCHES = "batches"
    """Reading, listing, cancelling and deleting."""
    NEW_BATCH = "new_batch"
    """Creating one: a call for each request in it."""

    __hash__ = str.__hash__  # an enumeration's own is written in Python


class Endpoint(msgspec.Struct, frozen=True, eq=False):
    """Each is there once, as below, and is compared by identity."""

    dialect: Dialect
    kind: Kind
    metered: bool = False
    """Costs money: the body must be understood and its cost bounded."""
    has_model: bool = False
    """The body is a JSON object that names a model."""
    generates: bool = False
    """Has output tokens, which need a cap."""

    @property
    def may_leave_model_out(self) -> bool:
        """What is kept at the provider may name it."""
        return self.kind is Kind.RESPONSES or (self.kind is Kind.COUNT_TOKENS and self.dialect is Dialect.OPENAI)

    @property
    def translates(self) -> bool:
        """The other API has a counterpart."""
        return self.kind is Kind.MESSAGES or self.kind is Kind.CHAT


MESSAGES = Endpoint(Dialect.ANTHROPIC, Kind.MESSAGES, metered=True, has_model=True, generates=True)
COUNT_TOKENS = Endpoint(Dialect.ANTHROPIC, Kind.COUNT_TOKENS, has_model=True)
ANTHROPIC_BATCHES = Endpoint(Dialect.ANTHROPIC, Kind.BATCHES)
NEW_BATCH = Endpoint(Dialect.ANTHROPIC, Kind.NEW_BATCH, metered=True)
ANTHROPIC_MODELS = Endpoint(Dialect.ANTHROPIC, Kind.MODELS)
CHAT = Endpoint(Dialect.OPENAI, Kind.CHAT, metered=True, has_model=True, generates=True)
RESPONSES = Endpoint(Dialect.OPENAI, Kind.RESPONSES, metered=True, has_model=True, generates=True)
STORED = Endpoint(Dialect.OPENAI, Kind.STORED)
INPUT_TOKENS = Endpoint(Dialect.OPENAI, Kind.COUNT_TOKENS, has_model=True)
EMBEDDINGS = Endpoint(Dialect.OPENAI, Kind.EMBEDDINGS, metered=True, has_model=True)
OPENAI_BATCHES = Endpoint(Dialect.OPENAI, Kind.BATCHES)
OPENAI_MODELS = Endpoint(Dialect.OPENAI, Kind.MODELS)

_POSTED = {
    "/v1/messages": MESSAGES,
    "/v1/messages/count_tokens": COUNT_TOKENS,
    "/v1/chat/completions": CHAT,
    "/v1/responses": RESPONSES,
    "/v1/responses/input_tokens": INPUT_TOKENS,
    "/v1/embeddings": EMBEDDINGS,
}

_ANTHROPIC_ONLY = (
    "messages", "complete", "skills", "user_profiles", "agents", "sessions", "environments", "memory_stores",
    "vaults", "deployments", "dreams", "tunnels", "organizations",
)  # fmt: skip
_OPENAI_ONLY = (
    "responses", "completions", "chat", "embeddings", "audio", "images", "videos", "moderations", "fine_tuning",
    "assistants", "threads", "vector_stores", "realtime", "evals", "uploads", "containers", "conversations",
    "batches", "graders", "chatkit",
)  # fmt: skip
_SHARED = ("files",)
_READ = ("GET", "HEAD")
_STORED = tuple(
    (re.compile(pattern), methods)
    for pattern, methods in (
        (r"/v1/responses/(?!compact$)[^/]+", (*_READ, "DELETE")),
        (r"/v1/responses/[^/]+/cancel", ("POST",)),
        (r"/v1/responses/[^/]+/input_items", _READ),
        (r"/v1/chat/completions/[^/]+", (*_READ, "POST", "DELETE")),  # POST changes its metadata
        (r"/v1/chat/completions/[^/]+/messages", _READ),
    )
)
_BATCH_METHODS = ("GET", "HEAD", "POST", "DELETE")
"""TRACE among the others would show the application the provider's key."""
_BATCH_OF_A_FILE = Refusal(
    400,
    "EndpointNotMetered",
    "POST /v1/batches takes its requests from a file that was uploaded past keelage, so their cost cannot be bounded: "
    "send them one by one, or to an Anthropic model by POST /v1/messages/batches, which carries them itself",
    "input_file_id",
)
_SPENDING = frozenset((*_ANTHROPIC_ONLY, *_OPENAI_ONLY, *_SHARED))


def dialect_of(path: str, headers: Headers = ()) -> Dialect:
    """The API that the caller speaks, also for paths that neither API has: errors take its shape.

    `/v1/models` and `/v1/files` exist in both; an Anthropic SDK always sends `anthropic-version`.
    """
    family = _family(path)
    if family in _ANTHROPIC_ONLY:
        return Dialect.ANTHROPIC
    if family in _OPENAI_ONLY:
        return Dialect.OPENAI
    names = {name for name, _ in headers}
    return Dialect.ANTHROPIC if b"anthropic-version" in names or b"x-api-key" in names else Dialect.OPENAI


def endpoint_of(method: str, path: str, headers: Headers = ()) -> Endpoint | Refusal:
    """The endpoint, or 404, 405 or 400 with the reason. `path` may still carry its query."""
    if method == "POST" and (posted := _POSTED.get(path)) is not None:
        return posted
    bare = path.partition("?")[0]
    if len(bare) > 1:
        bare = bare.rstrip("/")
    if not _plain(bare.replace("%2F", "/").replace("%2f", "/") if bare.startswith("/v1/models/") else bare):
        return _unknown(bare)
    posted = _POSTED.get(bare)
    if posted is CHAT and method in _READ:
        return STORED
    if posted is not None:
        return posted if method == "POST" else _wrong_method(method, bare, "POST")
    for pattern, allowed in _STORED:
        if pattern.fullmatch(bare):
            return STORED if method in allowed else _wrong_method(method, bare, " or ".join(allowed))
    if bare == "/v1/models" or bare.startswith("/v1/models/"):
        if method not in ("GET", "HEAD"):
            return _wrong_method(method, bare, "GET")
        return ANTHROPIC_MODELS if dialect_of(bare, headers) is Dialect.ANTHROPIC else OPENAI_MODELS
    for prefix, endpoint in (("/v1/messages/batches", ANTHROPIC_BATCHES), ("/v1/batches", OPENAI_BATCHES)):
        if bare == prefix or bare.startswith(prefix + "/"):
            if bare == prefix and method == "POST":
                return NEW_BATCH if endpoint is ANTHROPIC_BATCHES else _BATCH_OF_A_FILE
            if method not in _BATCH_METHODS:
                return _wrong_method(method, bare, " or ".join(_BATCH_METHODS))
            if method == "POST" and not bare.endswith("/cancel"):
                break  # whatever it would do there
            return endpoint
    if _family(bare) in _SPENDING:
        return Refusal(
            400,
            "EndpointNotMetered",
            f"{method} {bare} may spend money that keelage cannot meter yet, so it is not passed on: "
            "use /v1/messages, /v1/messages/batches, /v1/chat/completions, /v1/responses or /v1/embeddings",
        )
    return _unknown(bare)


def _family(path: str) -> str:
    parts = path.partition("?")[0].split("/")
    return parts[2] if len(parts) > 2 and parts[1] == "v1" else ""


def _plain(path: str) -> bool:
    """No dot segments, empty segments or escapes: the provider must not read another path than we did."""
    return (
        path.startswith("/")
        and path.isascii()
        and path.isprintable()
        and not any(mark in path for mark in ("//", "/./", "/../", "%", "\\", "#", ";", " "))
        and not path.endswith(("/.", "/.."))
    )


def _unknown(path: str) -> Refusal:
    return Refusal(
        404,
        "UnknownEndpoint",
        f"keelage knows no endpoint {path[:200]!r}: correct the path, or the SDK's base_url, which ends in /v1"
        " for OpenAI only",
    )


def _wrong_method(method: str, path: str, allowed: str) -> Refusal:
    return Refusal(405, "MethodNotAllowed", f"{method} {path}: this endpoint takes {allowed}")
