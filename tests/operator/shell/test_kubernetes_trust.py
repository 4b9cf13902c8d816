"""The authority's Secret and the webhooks, as the API server is asked for them."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import pytest
from tests.operator.shell.fake_cluster import FakeCluster

from keelage_operator.core.identity import PodIdentity
from keelage_operator.shell.authority import StoredTrust, TrustConflict, TrustUnavailable
from keelage_operator.shell.cluster import Json, PatchKind
from keelage_operator.shell.kubernetes_trust import FIELD_MANAGER, KubernetesTrust
from keelage_operator.shell.token_review import POD_NAME, POD_UID, KubernetesAuthenticator, ReviewUnavailable, Unknown

SECRET = "/api/v1/namespaces/ops/secrets/keelage-authority"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"


class Api(FakeCluster):
    """Knows server-side apply of webhooks, by name, and TokenReview."""

    applied: list[tuple[str, Json, dict[str, str]]]
    status: Json

    async def patch(
        self, path: str, body: Json | list[Json], kind: PatchKind, query: Mapping[str, str] | None = None
    ) -> Json:
        assert kind is PatchKind.APPLY
        assert isinstance(body, dict)
        self.applied.append((path, body, dict(query or {})))
        stored = self._find(path)
        stored["webhooks"] = body["webhooks"]
        return self._store(path, stored)

    async def create(self, path: str, body: Json) -> Json:
        if path.endswith("/tokenreviews"):
            return self._call("POST", path, lambda: {**body, "status": self.status})
        return await super().create(path, body)


def api() -> Api:
    made = Api()
    made.applied, made.status = [], {}
    return made


def trust(cluster: FakeCluster) -> KubernetesTrust:
    return KubernetesTrust(cluster, "ops", "keelage-authority", "keelage")


async def test_secret_is_created_once_and_replaced_by_its_version() -> None:
    cluster = api()
    store = trust(cluster)
    assert await store.load() is None
    await store.create({"ca.crt": b"one"})
    first = await store.load()
    assert first is not None
    assert first.data == {"ca.crt": b"one"}
    with pytest.raises(TrustConflict):
        await store.create({"ca.crt": b"two"})
    await store.replace({"ca.crt": b"two"}, first.version)
    with pytest.raises(TrustConflict):
        await store.replace({"ca.crt": b"three"}, first.version)
    second = await store.load()
    assert second is not None
    assert second.data == {"ca.crt": b"two"}


async def test_secret_that_was_deleted_meanwhile_is_a_conflict() -> None:
    with pytest.raises(TrustConflict, match="deleted"):
        await trust(api()).replace({"ca.crt": b"x"}, "1")


async def test_data_that_is_not_base64_reads_as_empty() -> None:
    cluster = api()
    cluster.add(SECRET, {"data": {"ca.crt": "%%%"}})
    found = await trust(cluster).load()
    assert isinstance(found, StoredTrust)
    assert found.data == {"ca.crt": b""}


async def test_silent_api_server_is_told_from_a_missing_secret() -> None:
    store = trust(FakeCluster(down=True))
    with pytest.raises(TrustUnavailable):
        await store.load()
    with pytest.raises(TrustUnavailable):
        await store.trust(b"bundle")


async def test_bundle_goes_into_every_webhook_by_apply_and_only_when_it_differs() -> None:
    cluster, encoded = api(), base64.b64encode(b"bundle").decode()
    store = trust(cluster)
    assert not await store.trust(b"bundle"), "the chart is not there yet"
    for plural, names in (("mutating", ("a", "b")), ("validating", ("c",))):
        hooks = [{"name": name, "clientConfig": {"service": {"name": "keelage"}}} for name in names]
        cluster.add(f"{ADMISSION}/{plural}webhookconfigurations/keelage", {"webhooks": hooks})
    assert await store.trust(b"bundle")
    assert await store.trust(b"bundle")
    assert [(path, query) for path, _, query in cluster.applied] == [
        (f"{ADMISSION}/mutatingwebhookconfigurations/keelage", {"fieldManager": FIELD_MANAGER, "force": "true"}),
        (f"{ADMISSION}/validatingwebhookconfigurations/keelage", {"fieldManager": FIELD_MANAGER, "force": "true"}),
    ]
    assert cluster.applied[0][1]["webhooks"] == [
        {"name": "a", "clientConfig": {"caBundle": encoded}},
        {"name": "b", "clientConfig": {"caBundle": encoded}},
    ]


SPEAKER = {"username": "system:serviceaccount:shop:default", "extra": {POD_NAME: ["web-1"], POD_UID: ["uid-1"]}}


@pytest.mark.parametrize(
    ("status", "known"),
    [
        ({"authenticated": True, "audiences": ["keelage"], "user": SPEAKER}, True),
        ({"authenticated": True, "user": SPEAKER}, False),
        ({"authenticated": True, "audiences": ["other"], "user": SPEAKER}, False),
        ({"authenticated": False, "error": "expired"}, False),
        ({}, False),
    ],
)
async def test_pod_is_known_only_if_the_api_server_vouches_for_the_audience(status: Json, known: bool) -> None:
    cluster = api()
    cluster.status = status
    found = await KubernetesAuthenticator(cluster).review("token")
    assert found == PodIdentity("shop", "web-1", "uid-1", "default") if known else isinstance(found, Unknown)


async def test_silent_api_server_says_nothing_about_a_token() -> None:
    cluster = api()
    cluster.down = True
    with pytest.raises(ReviewUnavailable):
        await KubernetesAuthenticator(cluster).review("token")
