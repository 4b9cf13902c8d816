"""`keelage doctor -f DIR`: asks each provider whether the keys and models of the manifests are good.

The only place that calls a provider by its SDK; nothing here is on a request's path,
and nothing is asked for that costs money.
"""

from __future__ import annotations

import enum
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import TracebackType

import anthropic
import httpx2
import msgspec
from anthropic.types import MessageTokensCount

from keelage_api.mounted import SECRET, MountedKey
from keelage_api.pricing import ModelPrice
from keelage_api.proxy_config import Backend, Provider
from keelage_api.v1alpha1.backend import DEFAULT_ENDPOINTS
from keelage_operator.doctor_samples import Comparison, compared
from keelage_operator.local_folder import Folder

TIMEOUT_S = 15.0
MODELS_MAX = 1_000
COUNTED_MAX = 20
"""Models of a backend whose token counts are compared; each takes a call for every sample."""

ENVIRONMENT = {Provider.ANTHROPIC: "ANTHROPIC_API_KEY", Provider.OPENAI: "OPENAI_API_KEY"}
"""Where the SDKs look for a key, too."""


class Level(enum.StrEnum):
    OK = "ok"
    WARNING = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    backend: str
    level: Level
    text: str

    @property
    def good(self) -> bool:
        return self.level is not Level.FAIL

    def __str__(self) -> str:
        return f"{self.level:4} {self.backend}: {self.text}"


class _NoKey(Exception):
    """The text says where one may be put."""


class _ProviderAway(Exception):
    """The text says what it answered."""


def examine(
    backend: Backend,
    models: frozenset[str],
    prices: Mapping[str, ModelPrice],
    folder: Folder,
    environment: Mapping[str, str],
) -> Iterator[Finding]:
    """Ask one backend with the key of the manifests; one finding per question.

    `models`: the names that the tiers send there. `prices`: of all models of its provider, its own among them. The
    `environment` has the key of a folder without Secrets. No finding holds a key.
    """

    def found(level: Level, text: str) -> Finding:
        return Finding(backend.name, level, text)

    try:
        key, source = key_of(backend, folder, environment)
        tls = _trust(backend, folder)
        with (_AnthropicAPI if backend.provider is Provider.ANTHROPIC else _OpenAIAPI)(backend, key, tls) as api:
            listed = api.models()
            yield found(Level.OK, f"{backend.endpoint} takes {source} and offers {len(listed)} models")
            known = [model for model in sorted(models) if model in listed or api.has(model)]
            for model in sorted(models.difference(known)):
                near = get_close_matches(model, listed, n=1)
                named = f": did you mean {near[0]}?" if near else ": check its name"
                yield found(Level.FAIL, f"{backend.endpoint} does not have the model {model}{named}")
            # Where the application chooses the model, one that it may choose stands for all.
            asked = known or sorted(model for model in listed if model in prices)[:1]
            for model in known:
                if model not in prices:
                    yield found(
                        Level.WARNING,
                        f"model {model} has no price: its calls are refused under a Hard budget in dollars: add it to"
                        " the backend's prices",
                    )
            for model in asked[:COUNTED_MAX]:
                result = compared(backend, model, prices.get(model), api.count)
                if result is not None:
                    yield _told(backend, model, result)
    except (_NoKey, _ProviderAway) as problem:
        yield found(Level.FAIL, str(problem))


def key_of(backend: Backend, folder: Folder, environment: Mapping[str, str]) -> tuple[str, str]:
    """The key and where it is from, as people call it: a Secret in the folder, else the SDKs' variable.

    The variable's key is only ever sent to the provider whom it is for. Raises _NoKey.
    """
    if not backend.credential:
        return "", "calls without a key"
    secret, _, entry = backend.credential.partition("/")
    if (held := folder.secrets.get(secret, {}).get(entry)) is not None:
        return held.decode(errors="replace").strip(), f"the key {backend.credential}"
    variable = ENVIRONMENT.get(backend.provider, "")
    if backend.endpoint == DEFAULT_ENDPOINTS.get(backend.provider) and (given := environment.get(variable)):
        return given.strip(), f"the key in {variable} (Secret {secret} is not in the folder)"
    remedy = f", or set {variable}" if backend.endpoint == DEFAULT_ENDPOINTS.get(backend.provider) else ""
    raise _NoKey(f"Secret {secret} has no key {entry} in the folder: add it as kind: Secret{remedy}")


def _told(backend: Backend, model: str, result: Comparison) -> Finding:
    if result.below is not None:
        sample, bound, count = result.below
        return Finding(
            backend.name,
            Level.FAIL,
            f"model {model}: the provider counts {count} tokens in our sample of {sample}, and we bound it by {bound}:"
            " a hard limit may be passed: please report it",
        )
    return Finding(
        backend.name,
        Level.OK,
        f"model {model}: our bound is {result.bound_text} the provider's own count of tokens, our estimate"
        f" {result.estimate_text}",
    )


def _trust(backend: Backend, folder: Folder) -> ssl.SSLContext:
    """The system's authorities, or those that the backend names. Raises _NoKey."""
    if backend.tls is None or not backend.tls.authorities:
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for path in backend.tls.authorities:
        named = MountedKey.of(path)
        held = folder.secrets if named.kind == SECRET else folder.config_maps
        try:
            context.load_verify_locations(cadata=held[named.name][named.key].decode("ascii"))
        except KeyError as error:
            raise _NoKey(f"tls.caCertificateRefs: {named.text} is not in the folder: add it") from error
        except (ssl.SSLError, UnicodeDecodeError) as error:
            raise _NoKey(f"tls.caCertificateRefs: {named.text} holds no certificate in PEM") from error
    return context


def _transport(backend: Backend, tls: ssl.SSLContext) -> httpx2.Client:
    """Whose certificate must be that of `tls.hostname`, where one is given."""

    def ask_for_hostname(request: httpx2.Request) -> None:
        if backend.tls is not None and backend.tls.hostname:
            request.extensions["sni_hostname"] = backend.tls.hostname

    return anthropic.DefaultHttpxClient(verify=tls, timeout=TIMEOUT_S, event_hooks={"request": [ask_for_hostname]})


class _AnthropicAPI:
    def __init__(self, backend: Backend, key: str, tls: ssl.SSLContext) -> None:
        self._backend = backend
        self._client = anthropic.Anthropic(
            base_url=backend.endpoint,
            api_key=key,
            timeout=TIMEOUT_S,
            max_retries=1,
            http_client=_transport(backend, tls),
        )

    def __enter__(self) -> _AnthropicAPI:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What the SDK raises becomes _ProviderAway."""
        self._client.close()
        if isinstance(raised, anthropic.APIStatusError):
            raise _refused(self._backend, raised.status_code) from raised
        if isinstance(raised, anthropic.APIError):
            raise _away(self._backend, raised) from raised

    def models(self) -> frozenset[str]:
        names = set()
        for model in self._client.models.list(limit=MODELS_MAX):
            names.add(model.id)
            if len(names) >= MODELS_MAX:
                break
        return frozenset(names)

    def has(self, model: str) -> bool:
        """Also by another name than it is listed by."""
        try:
            self._client.models.retrieve(model)
        except anthropic.NotFoundError:
            return False
        return True

    def count(self, model: str, body: Mapping[str, object]) -> int | None:
        """The provider's own count of a Messages call, which is free."""
        try:
            counted = self._client.post(
                "/v1/messages/count_tokens", body={**body, "model": model}, cast_to=MessageTokensCount
            )
        except anthropic.NotFoundError:
            return None  # of a server that speaks the API without it
        return counted.input_tokens


class _Model(msgspec.Struct):
    id: str


class _Listed(msgspec.Struct):
    data: list[_Model]


class _OpenAIAPI:
    """Of OpenAI and whoever is compatible: what all of them have."""

    def __init__(self, backend: Backend, key: str, tls: ssl.SSLContext) -> None:
        self._backend = backend
        self._client = _transport(backend, tls)
        self._headers = {"authorization": f"Bearer {key}"} if key else {}

    def __enter__(self) -> _OpenAIAPI:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()
        if isinstance(raised, httpx2.HTTPStatusError):
            raise _refused(self._backend, raised.response.status_code) from raised
        if isinstance(raised, (httpx2.HTTPError, msgspec.MsgspecError)):
            raise _away(self._backend, raised) from raised

    def models(self) -> frozenset[str]:
        reply = self._client.get(f"{self._backend.endpoint}/v1/models", headers=self._headers).raise_for_status()
        return frozenset(model.id for model in msgspec.json.decode(reply.content, type=_Listed).data[:MODELS_MAX])

    def has(self, model: str) -> bool:
        return False

    def count(self, model: str, body: Mapping[str, object]) -> int | None:
        return None


def _refused(backend: Backend, status: int) -> _ProviderAway:
    if status in (401, 403):
        return _ProviderAway(
            f"{backend.endpoint} refuses the key {backend.credential}: {status}: put a valid one there"
        )
    return _ProviderAway(f"{backend.endpoint} answered {status}: check the endpoint")


def _away(backend: Backend, error: Exception) -> _ProviderAway:
    """The reason of the innermost error: certificates, names and refused connections each have their own words."""
    cause: BaseException = error
    while (below := cause.__cause__ or cause.__context__) is not None:
        cause = below
    why = (cause.strerror or str(cause)) if isinstance(cause, OSError) else type(error).__name__
    return _ProviderAway(
        f"{backend.endpoint} could not be asked: {why}: check the endpoint, and the way to it from here"
    )
