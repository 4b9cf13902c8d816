"""The authority's Secret and the webhook configurations in the API server."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Mapping, Sequence
from typing import TypeVar

import aiohttp
from kubernetes.aio import client

from keelage_operator.shell.authority import StoredTrust, TrustConflict, TrustUnavailable

FIELD_MANAGER = "keelage-trust"
"""Its own, so that nobody else's apply takes the bundle away, and it takes nothing from others."""

APPLY = "application/apply-patch+yaml"
REQUEST_S = 10.0

T = TypeVar("T")


class KubernetesTrust:
    """TrustStore on one Secret and the two configurations of the chart, which have one name."""

    def __init__(self, api: client.ApiClient, namespace: str, secret: str, configuration: str) -> None:
        self._core = client.CoreV1Api(api)
        self._admission = client.AdmissionregistrationV1Api(api)
        self._namespace = namespace
        self._secret = secret
        self._configuration = configuration

    async def load(self) -> StoredTrust | None:
        try:
            found = await self._call(
                self._core.read_namespaced_secret(self._secret, self._namespace, _request_timeout=REQUEST_S)
            )
        except _Missing:
            return None
        version = found.metadata.resource_version if found.metadata is not None else None
        return StoredTrust(_decoded(found.data or {}), version or "")

    async def create(self, data: Mapping[str, bytes]) -> None:
        await self._call(
            self._core.create_namespaced_secret(
                self._namespace, self._body(data, version=None), _request_timeout=REQUEST_S
            )
        )

    async def replace(self, data: Mapping[str, bytes], version: str) -> None:
        try:
            await self._call(
                self._core.replace_namespaced_secret(
                    self._secret, self._namespace, self._body(data, version), _request_timeout=REQUEST_S
                )
            )
        except _Missing as error:
            raise TrustConflict(f"Secret {self._secret} was deleted meanwhile") from error

    async def trust(self, bundle: bytes) -> bool:
        encoded = base64.b64encode(bundle).decode("ascii")
        admission, name = self._admission, self._configuration
        try:
            mutating = await self._call(admission.read_mutating_webhook_configuration(name, _request_timeout=REQUEST_S))
            if patch := _patch("MutatingWebhookConfiguration", name, _seen(mutating.webhooks), encoded):
                await self._call(
                    admission.patch_mutating_webhook_configuration(
                        name,
                        patch,
                        field_manager=FIELD_MANAGER,
                        force=True,
                        _content_type=APPLY,
                        _request_timeout=REQUEST_S,
                    )
                )
            validating = await self._call(
                admission.read_validating_webhook_configuration(name, _request_timeout=REQUEST_S)
            )
            if patch := _patch("ValidatingWebhookConfiguration", name, _seen(validating.webhooks), encoded):
                await self._call(
                    admission.patch_validating_webhook_configuration(
                        name,
                        patch,
                        field_manager=FIELD_MANAGER,
                        force=True,
                        _content_type=APPLY,
                        _request_timeout=REQUEST_S,
                    )
                )
        except _Missing:
            return False
        return True

    def _body(self, data: Mapping[str, bytes], version: str | None) -> client.V1Secret:
        return client.V1Secret(
            metadata=client.V1ObjectMeta(
                name=self._secret,
                namespace=self._namespace,
                resource_version=version,
                labels={"app.kubernetes.io/name": "keelage", "app.kubernetes.io/managed-by": "keelage-operator"},
            ),
            type="Opaque",
            data={name: base64.b64encode(value).decode("ascii") for name, value in data.items()},
        )

    async def _call(self, request: Awaitable[T]) -> T:
        try:
            return await request
        except client.ApiException as error:
            if error.status == 404:
                raise _Missing from error
            if error.status == 409:
                raise TrustConflict(f"Secret {self._secret} changed meanwhile") from error
            raise TrustUnavailable(f"API server answered {error.status} {error.reason}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TrustUnavailable(f"API server not reached: {type(error).__name__}: {error}") from error


def _seen(webhooks: Sequence[client.V1MutatingWebhook] | Sequence[client.V1ValidatingWebhook] | None) -> dict[str, str]:
    """Base64 bundle by webhook."""
    return {hook.name: _text(hook.client_config.ca_bundle) for hook in webhooks or ()}


def _text(value: str | bytes | None) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else value or ""


def _patch(kind: str, name: str, seen: Mapping[str, str], encoded: str) -> dict[str, object] | None:
    """The apply configuration, None if there is nothing to do.

    All webhooks are in it, since an apply takes away what it does not name.
    """
    if all(bundle == encoded for bundle in seen.values()):
        return None
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name},
        "webhooks": [{"name": hook, "clientConfig": {"caBundle": encoded}} for hook in seen],
    }


class _Missing(Exception):
    """404; never leaves this module."""


def _decoded(data: Mapping[str, str | bytes]) -> dict[str, bytes]:
    decoded: dict[str, bytes] = {}
    for name, value in data.items():
        try:
            decoded[name] = base64.b64decode(value, validate=True)
        except binascii.Error:
            decoded[name] = b""
    return decoded
