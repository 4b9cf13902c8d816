"""`keelage doctor -f DIR`: asks each provider whether the keys and models of the manifests are good.

The only place that calls a provider by its SDK; nothing here is on a request's path.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import anthropic

from keelage_api.proxy_config import Backend, Provider

TIMEOUT_S = 15.0
MODELS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Finding:
    backend: str
    good: bool
    text: str


def examine(backend: Backend, models: frozenset[str], secrets: Mapping[str, Mapping[str, bytes]]) -> Iterator[Finding]:
    """Ask one backend for its models with the key of the manifests; one finding per question.

    `models`: the names that the tiers send there. No finding holds a key.
    """
    key = ""
    if backend.credential:
        secret, _, entry = backend.credential.partition("/")
        found = secrets.get(secret, {}).get(entry)
        if found is None:
            yield Finding(
                backend.name, False, f"Secret {secret} has no key {entry} in the folder: add it as kind: Secret"
            )
            return
        key = found.decode(errors="replace").strip()
    try:
        known = (
            _anthropic_models(backend, key) if backend.provider is Provider.ANTHROPIC else _openai_models(backend, key)
        )
    except anthropic.AuthenticationError:
        yield Finding(backend.name, False, f"{backend.endpoint} refuses the key {backend.credential}: 401")
        return
    except urllib.error.HTTPError as error:
        yield Finding(backend.name, False, f"{backend.endpoint} answered {error.code} to the key {backend.credential}")
        return
    except (
        anthropic.APIError,
        urllib.error.URLError,
        TimeoutError,
        json.JSONDecodeError,
        KeyError,
        TypeError,
    ) as error:
        yield Finding(backend.name, False, f"{backend.endpoint} could not be asked: {type(error).__name__}")
        return
    yield Finding(backend.name, True, f"{backend.endpoint} takes the key and offers {len(known)} models")
    for model in sorted(models - known):
        yield Finding(backend.name, False, f"{backend.endpoint} does not list the model {model}: check its name")


def _anthropic_models(backend: Backend, key: str) -> frozenset[str]:
    client = anthropic.Anthropic(base_url=backend.endpoint, api_key=key, timeout=TIMEOUT_S, max_retries=1)
    names = set()
    for model in client.models.list(limit=MODELS_MAX):
        names.add(model.id)
        if len(names) >= MODELS_MAX:
            break
    return frozenset(names)


def _openai_models(backend: Backend, key: str) -> frozenset[str]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(f"{backend.endpoint}/v1/models", headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
        listed = json.load(reply)["data"]
    return frozenset(str(model["id"]) for model in listed[:MODELS_MAX])
