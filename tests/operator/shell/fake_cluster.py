"""An API server in memory, as far as the operator uses one; any of its calls can be made to fail."""

from __future__ import annotations

import copy
import enum
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from keelage_operator.shell.cluster import Json, PatchKind, Refused, Unreachable, member


class Fault(enum.Enum):
    """How a call fails: it never arrived, or its answer was lost."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(slots=True)
class FakeCluster:
    """Objects by `/<api>/namespaces/<ns>/<plural>/<name>`; versions rise over all of them."""

    objects: dict[str, Json] = field(default_factory=dict)
    fail_at: int = -1
    """Index of the call that fails; -1: none."""
    fault: Fault = Fault.BEFORE
    down: bool = False
    deleted_namespaces: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    _versions: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _uids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def add(self, path: str, body: Json) -> Json:
        """As a user does; `path` of the object."""
        stored = copy.deepcopy(body)
        collection, _, name = path.rpartition("/")
        meta = dict(member(stored, "metadata"))
        meta.update(name=name, namespace=_namespace(collection))
        meta.setdefault("uid", f"uid-{next(self._uids)}")
        meta.setdefault("generation", 1)
        meta.setdefault("creationTimestamp", "2026-11-01T00:00:00Z")
        stored["metadata"] = meta
        return self._store(path, stored)

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Json:
        with_selector = f"{path}?{(query or {}).get('labelSelector', '')}".rstrip("?")
        return self._call("GET", with_selector, lambda: self._get(path, query or {}))

    async def create(self, path: str, body: Json) -> Json:
        def effect() -> Json:
            full = f"{path}/{member(body, 'metadata')['name']}"
            if _namespace(path) in self.deleted_namespaces:
                raise Refused(404, "NotFound", f'namespaces "{_namespace(path)}" not found')
            if full in self.objects:
                raise Refused(409, "AlreadyExists", f"{full} already exists")
            return self.add(full, body)

        return self._call("POST", path, effect)

    async def replace(self, path: str, body: Json) -> Json:
        def effect() -> Json:
            stored = self._find(path)
            wanted = member(body, "metadata").get("resourceVersion")
            if wanted is not None and wanted != member(stored, "metadata")["resourceVersion"]:
                raise Refused(409, "Conflict", f"{path} has been modified")
            merged = copy.deepcopy(body)
            merged["metadata"] = {**member(stored, "metadata"), **member(body, "metadata")}
            return self._store(path, merged)

        return self._call("PUT", path, effect)

    async def patch(
        self, path: str, body: Json | list[Json], kind: PatchKind, query: Mapping[str, str] | None = None
    ) -> Json:
        def effect() -> Json:
            assert kind is PatchKind.JSON
            assert isinstance(body, list)
            target = path.removesuffix("/status")
            stored = copy.deepcopy(self._find(target))
            for operation in body:
                if operation["op"] == "test":
                    assert operation["path"] == "/metadata/uid"
                    if member(stored, "metadata")["uid"] != operation["value"]:
                        raise Refused(422, "Invalid", "the server rejected our request: testing value failed")
                else:
                    assert operation["op"] == "add"
                    assert operation["path"] == "/status"
                    stored["status"] = copy.deepcopy(operation["value"])
            if stored.get("status") == self._find(target).get("status"):
                return copy.deepcopy(self._find(target))
            return self._store(target, stored)

        return self._call("PATCH", path, effect)

    async def delete(self, path: str, body: Json | None = None) -> Json:
        def effect() -> Json:
            stored = self._find(path)
            wanted = member(body or {}, "preconditions").get("resourceVersion")
            if wanted is not None and wanted != member(stored, "metadata")["resourceVersion"]:
                raise Refused(409, "Conflict", f"{path} has been modified")
            return self.objects.pop(path)

        return self._call("DELETE", path, effect)

    def _call(self, method: str, path: str, effect: Callable[[], Json]) -> Json:
        index = len(self.calls)
        self.calls.append(f"{method} {unquote(path)}")
        if self.down or (index == self.fail_at and self.fault is Fault.BEFORE):
            raise Unreachable(f"{method} {path}: no answer")
        outcome = copy.deepcopy(effect())
        if index == self.fail_at:
            raise Unreachable(f"{method} {path}: the answer was lost")
        return outcome

    def _get(self, path: str, query: Mapping[str, str]) -> Json:
        if "limit" not in query:
            return self._find(path)
        root, _, plural = path.rpartition("/")
        selectors = [each for each in query.get("labelSelector", "").split(",") if each]
        items = [
            stored
            for at, stored in sorted(self.objects.items())
            if at.startswith((f"{root}/namespaces/", f"{path}/"))
            and at.split("/")[-2] == plural
            and all(_selected(member(member(stored, "metadata"), "labels"), each) for each in selectors)
        ]
        # Pages of two, so that reading on is tried.
        start = int(query.get("continue", "0"))
        more = str(start + 2) if start + 2 < len(items) else ""
        return {"items": items[start : start + 2], "metadata": {"continue": more}}

    def _find(self, path: str) -> Json:
        if path not in self.objects:
            raise Refused(404, "NotFound", f"{path} not found")
        return self.objects[path]

    def _store(self, path: str, body: Json) -> Json:
        body["metadata"] = {**member(body, "metadata"), "resourceVersion": str(next(self._versions))}
        self.objects[path] = body
        return body


def _selected(labels: Json, selector: str) -> bool:
    """`key=value`, `key!=value` or `key`."""
    key, equals, value = selector.partition("=")
    if not equals:
        return key in labels
    return labels.get(key[:-1]) != value if key.endswith("!") else labels.get(key) == value


def _namespace(collection: str) -> str:
    parts = collection.split("/")
    return parts[parts.index("namespaces") + 1] if "namespaces" in parts[:-1] else ""
