"""`keelage doctor -f DIR`: asks each provider whether the keys and models of the manifests are good.

The only place that calls a provider by its SDK; nothing here is on a request's path.
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import anthropic

from keelage_api.mounted import SECRET, MountedKey
from keelage_api.proxy_config import Backend, Provider
from keelage_operator.local_folder import Folder

TIMEOUT_S = 15.0
MODELS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Finding:
    backend: str
    good: bool
    text: str


def examine(backend: Backend, models: frozenset[str], folder: Folder) -> Iterator[Finding]:
    """Ask one backend for its models with the key of the manifests; one finding per question.

    `models`: the names that the tiers send there. No finding holds a key.
    """
    key = ""
    if backend.credential:
        secret, _, entry = backend.credential.partition("/")
        found = folder.secrets.get(secret, {}).get(entry)
        if found is None:
            yield Finding(
                backend.name, False, f"Secret {secret} has no key {entry} in the folder: add it as kind: Secret"
            )
            return
        key = found.decode(errors="replace").strip()
    try:
        tls = _trust(backend, folder)
    except (KeyError, ssl.SSLError, UnicodeDecodeError):
        text = "an authority of tls.caCertificateRefs is not in the folder, or is no certificate in PEM"
        yield Finding(backend.name, False, text)
        return
    models_of = _anthropic_models if backend.provider is Provider.ANTHROPIC else _openai_models
    try:
        known = models_of(backend, key, tls)
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


def _trust(backend: Backend, folder: Folder) -> ssl.SSLContext:
    """The system's authorities, or those that the backend names."""
    if backend.tls is None:
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for path in backend.tls.authorities:
        named = MountedKey.of(path)
        held = folder.secrets if named.kind == SECRET else folder.config_maps
        context.load_verify_locations(cadata=held[named.name][named.key].decode("ascii"))
    return context


def _anthropic_models(backend: Backend, key: str, tls: ssl.SSLContext) -> frozenset[str]:
    transport = anthropic.DefaultHttpxClient(verify=tls)
    names = set()
    with anthropic.Anthropic(
        base_url=backend.endpoint, api_key=key, timeout=TIMEOUT_S, max_retries=1, http_client=transport
    ) as client:
        for model in client.models.list(limit=MODELS_MAX):
            names.add(model.id)
            if len(names) >= MODELS_MAX:
                break
    return frozenset(names)


def _openai_models(backend: Backend, key: str, tls: ssl.SSLContext) -> frozenset[str]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(f"{backend.endpoint}/v1/models", headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=tls) as reply:
        listed = json.load(reply)["data"]
    return frozenset(str(model["id"]) for model in listed[:MODELS_MAX])
