"""What is read for one pod, when the watch has not shown it yet."""

from __future__ import annotations

import pytest
from tests.operator.shell.fake_cluster import FakeCluster
from tests.operator.shell.shop import API, PODS, route

from keelage_api.mounted import MountedKey
from keelage_operator.core.identity import PodIdentity
from keelage_operator.core.price_book import price_book
from keelage_operator.shell.cluster import Json
from keelage_operator.shell.config_channel import Unavailable
from keelage_operator.shell.pod_reader import ClusterPods
from keelage_operator.shell.route_reader import ClusterRoutes

POD = PodIdentity("shop", "web-1", "uid-web")


def selecting(app: str) -> Json:
    body = route()
    spec = body["spec"]
    assert isinstance(spec, dict)
    return body | {"spec": spec | {"podSelector": {"matchLabels": {"app": app}}}}


async def test_credentials_are_those_of_the_routes_that_select_the_pod() -> None:
    cluster = FakeCluster()
    for name in ("a", "b", "c"):
        cluster.add(f"{API}/llmroutes/{name}", selecting("web"))
    cluster.add("/apis/keelage.dev/v1alpha1/namespaces/lab/llmroutes/a", selecting("api"))
    reader = ClusterRoutes(cluster, price_book())
    assert await reader.credentials_for("shop", {"app": "web"}) == (MountedKey("keys", "anthropic"),)
    assert await reader.credentials_for("shop", {"app": "api"}) == ()


async def test_api_server_that_does_not_answer_costs_nothing_but_freshness() -> None:
    assert await ClusterRoutes(FakeCluster(down=True), price_book()).credentials_for("shop", {}) == ()


async def test_pod_is_known_by_name_and_uid() -> None:
    cluster = FakeCluster()
    cluster.add(f"{PODS}/web-1", {"metadata": {"uid": "uid-web", "labels": {"app": "web"}}})
    assert await ClusterPods(cluster).labels_of(POD) == {"app": "web"}
    assert await ClusterPods(cluster).labels_of(PodIdentity("shop", "web-1", "uid-before")) is None
    assert await ClusterPods(cluster).labels_of(PodIdentity("shop", "web-2", "uid-web")) is None


async def test_pod_that_cannot_be_read_is_not_taken_for_gone() -> None:
    with pytest.raises(Unavailable, match="shop/web-1"):
        await ClusterPods(FakeCluster(down=True)).labels_of(POD)


async def test_routes_are_compiled_once_for_a_rollout_and_anew_when_one_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("keelage_operator.shell.route_reader.KNOWN_MAX", 2)
    cluster = FakeCluster()
    path = f"{API}/llmroutes/a"
    cluster.add(path, selecting("web"))
    reader = ClusterRoutes(cluster, price_book())
    assert await reader.credentials_for("shop", {"app": "web"})
    found = [cluster.objects[path]]
    assert reader._compiled("shop", found) is reader._compiled("shop", found)
    cluster.add(path, selecting("api") | {"metadata": {"uid": "uid-1", "generation": 2}})
    assert await reader.credentials_for("shop", {"app": "web"}) == ()
    for number in range(5):
        await reader.credentials_for(f"other-{number}", {})
    assert list(reader._known) == ["other-3", "other-4"]
