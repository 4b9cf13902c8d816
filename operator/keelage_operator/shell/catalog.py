"""The routes, budgets and injected pods of the cluster as they were last seen, and what they compile to.

The watch feeds it, lists correct it, and everybody else reads from it without a network
call. One event loop owns it.
"""

from __future__ import annotations

import asyncio
import enum
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from keelage_api.mounted import MountedKey
from keelage_api.proxy_config import ProxyConfig
from keelage_operator.core.compile import (
    CompiledBudget,
    CompiledNamespace,
    CompiledRoute,
    combine,
    compile_budget,
    compile_route,
)
from keelage_operator.core.ledger import Checkpoint
from keelage_operator.core.manifests import BudgetManifest, RouteManifest
from keelage_operator.core.price_book import Book
from keelage_operator.core.sidecar_template import CONTAINER
from keelage_operator.core.terms import BudgetInForce
from keelage_operator.shell.cluster import Json, member, objects

GONE_MAX = 50_000
"""Uids of deleted objects, kept so that a list begun before a deletion does not bring the object back."""

MESSAGES_MAX = 10_000
"""Termination messages kept, of a kibibyte each."""

POD_OVER = ("Succeeded", "Failed")
"""Phases that no container comes back from."""


class Kind(enum.StrEnum):
    """Plural names, as in paths of the API."""

    ROUTE = "llmroutes"
    BUDGET = "llmbudgets"
    POD = "pods"


@dataclass(frozen=True, slots=True)
class Seen:
    """An object at one of its versions. Pods are kept without what nobody reads here."""

    kind: Kind
    namespace: str
    name: str
    uid: str
    version: int
    """resourceVersion: a number that rises with each write of the cluster (KEP-5504)."""
    labels: Mapping[str, str]
    over: bool = False
    """A pod whose containers have all ended for good."""
    message: str = ""
    """Of a pod that is over: what its sidecar left as termination message."""
    raw: Mapping[str, object] = field(default_factory=dict)
    """Empty for pods."""
    checkpoint: Checkpoint | None = None
    """Of a budget's status: what it says was committed."""

    @classmethod
    def of(cls, kind: Kind, raw: Json) -> Seen:
        meta = member(raw, "metadata")
        labels = {key: str(value) for key, value in member(meta, "labels").items()}
        version = str(meta.get("resourceVersion") or "0")
        return cls(
            kind=kind,
            namespace=str(meta.get("namespace") or ""),
            name=str(meta.get("name") or ""),
            uid=str(meta.get("uid") or ""),
            version=int(version) if version.isdigit() else 0,
            labels=labels,
            over=kind is Kind.POD and member(raw, "status").get("phase") in POD_OVER,
            message=last_message(raw) if kind is Kind.POD else "",
            raw={} if kind is Kind.POD else raw,
            checkpoint=_checkpoint(member(raw, "status")) if kind is Kind.BUDGET else None,
        )


@dataclass(slots=True)
class _Namespace:
    objects: dict[Kind, dict[str, Seen]] = field(default_factory=lambda: {kind: {} for kind in Kind})
    revision: int = 1
    """Of its routes and budgets."""
    polls: dict[str, set[asyncio.Future[None]]] = field(default_factory=dict)
    """Waiting for a change, by the name of the pod."""
    routes: dict[str, CompiledRoute] = field(default_factory=dict)
    budgets: dict[str, CompiledBudget] = field(default_factory=dict)
    """One by one, by name; those that changed since are not there. A namespace with hundreds of them changes with each
    one that is accepted."""
    compiled: CompiledNamespace | None = None
    """All together; None: one of them changed since."""

    def changes(self, kind: Kind, name: str) -> None:
        """Not to be told from what was compiled any more: of a route or budget."""
        if kind is Kind.ROUTE:
            self.routes.pop(name, None)
        else:
            self.budgets.pop(name, None)
        self.compiled = None

    def obeys(self, kind: Kind, name: str) -> bool:
        """Whether its newest spec is in force, so that the last accepted one does not count."""
        compiled = self.routes.get(name) if kind is Kind.ROUTE else self.budgets.get(name)
        return compiled is not None and compiled.accepted

    def wake(self, pods: Iterable[str]) -> None:
        for pod in pods:
            for poll in self.polls.pop(pod, ()):
                if not poll.done():
                    poll.set_result(None)


def _ignore(_uid: str) -> None:
    return None


def _ignore_change(_seen: Seen, _obeyed: bool) -> None:
    return None


def _ignore_checkpoint(_name: str, _checkpoint: Checkpoint | None) -> None:
    return None


class Catalog:
    """A RouteSource, and the input of reconciliation."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._namespaces: dict[str, _Namespace] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._messages: OrderedDict[str, str] = OrderedDict()
        self._listed: set[Kind] = set()
        self.on_change: Callable[[Seen, bool], None] = _ignore_change
        """Told of every object that changed or was deleted, and whether sidecars may obey something else; not of
        what nobody has to look at: a status that we wrote, and of pods all but their labels and that they are over."""
        self.on_checkpoint: Callable[[str, Checkpoint | None], None] = _ignore_checkpoint
        """Told what the status of `<namespace>/<budget>` says was committed, whenever that changes."""
        self.on_pod_gone: Callable[[str], None] = _ignore
        """Told the uid of a pod that was deleted or is over."""

    # What feeds it

    def observe(self, seen: Seen, ours: bool = False) -> bool:
        """Take in an object; False if that version or a newer one is known already, or it was deleted.

        `ours`: it is the answer to a status that this replica wrote.
        """
        if seen.uid in self._gone:
            return False
        home = self._namespaces.setdefault(seen.namespace, _Namespace())
        objects = home.objects[seen.kind]
        before = objects.get(seen.name)
        if before is not None and seen.version <= before.version:
            return False
        objects[seen.name] = seen
        if before is not None and before.uid != seen.uid:
            self._keep(before)
            self._buried(before)
        if seen.over and not (before is not None and before.over):
            self._keep(seen)
            self.on_pod_gone(seen.uid)
        if seen.checkpoint != (before.checkpoint if before is not None else None):
            self.on_checkpoint(f"{seen.namespace}/{seen.name}", seen.checkpoint)
        obeyed = _matters(home, before, seen)
        if obeyed:
            self._bump(home, seen)
        looked_at = before is None or before.over != seen.over if seen.kind is Kind.POD else not ours
        if obeyed or looked_at:
            self.on_change(seen, obeyed)
        return True

    def gone(self, seen: Seen) -> bool:
        """An object was deleted; False if it was not known or its name was taken over by another."""
        self._bury(seen.uid)
        self._keep(seen)
        home = self._namespaces.get(seen.namespace)
        known = home.objects[seen.kind].get(seen.name) if home is not None else None
        if home is None or known is None or known.uid != seen.uid:
            if seen.kind is Kind.POD:
                self.on_pod_gone(seen.uid)
            return False
        del home.objects[seen.kind][seen.name]
        self._buried(known)
        if known.checkpoint is not None:
            self.on_checkpoint(f"{seen.namespace}/{seen.name}", None)
        self._bump(home, seen)
        if not any(home.objects.values()):
            # Namespaces come and go, in a cluster for tests by the thousand.
            home.wake(tuple(home.polls))
            del self._namespaces[seen.namespace]
        self.on_change(seen, True)
        return True

    def versions(self, kind: Kind) -> dict[str, int]:
        """By uid; to be taken before a list is asked for."""
        return {seen.uid: seen.version for home in self._namespaces.values() for seen in home.objects[kind].values()}

    def correct(self, kind: Kind, listed: Iterable[Seen], before: Mapping[str, int]) -> int:
        """Take in a complete list; the number of differences that the watch had missed.

        What was known before the list was asked for and is not in it was deleted,
        unless it changed meanwhile.
        """
        listed = tuple(listed)
        missed = sum(self.observe(seen) for seen in listed)
        present = {seen.uid for seen in listed}
        vanished = [
            seen
            for home in self._namespaces.values()
            for seen in home.objects[kind].values()
            if seen.uid not in present and before.get(seen.uid) == seen.version
        ]
        for seen in vanished:
            self.gone(seen)
        self._listed.add(kind)
        return missed + len(vanished)

    # What is read from it

    def synced(self) -> bool:
        return len(self._listed) == len(Kind)

    def namespaces(self) -> tuple[str, ...]:
        """All that hold a route or a budget."""
        return tuple(
            sorted(
                name for name, home in self._namespaces.items() if home.objects[Kind.ROUTE] or home.objects[Kind.BUDGET]
            )
        )

    def object(self, kind: Kind, namespace: str, name: str) -> Seen | None:
        home = self._namespaces.get(namespace)
        return home.objects[kind].get(name) if home is not None else None

    def objects(self, kind: Kind, namespace: str) -> tuple[Seen, ...]:
        """By name."""
        home = self._namespaces.get(namespace)
        return tuple(seen for _, seen in sorted(home.objects[kind].items())) if home is not None else ()

    def pod_uids(self) -> frozenset[str]:
        """Of the pods whose containers may still run."""
        return frozenset(
            pod.uid for home in self._namespaces.values() for pod in home.objects[Kind.POD].values() if not pod.over
        )

    def message_of(self, uid: str) -> str:
        """What the sidecar of a pod that is gone or over left behind; empty: nothing that was seen."""
        return self._messages.get(uid, "")

    def compiled(self, namespace: str) -> CompiledNamespace:
        home = self._namespaces.get(namespace)
        if home is None:
            return combine(namespace, (), (), self._book)
        if home.compiled is None:
            for name, seen in home.objects[Kind.ROUTE].items():
                if name not in home.routes:
                    home.routes[name] = compile_route(namespace, RouteManifest.of(seen.raw), self._book)
            for name, seen in home.objects[Kind.BUDGET].items():
                if name not in home.budgets:
                    home.budgets[name] = compile_budget(namespace, BudgetManifest.of(seen.raw))
            home.compiled = combine(namespace, home.routes.values(), home.budgets.values(), self._book)
        return home.compiled

    def budgets_in_force(self) -> dict[str, BudgetInForce]:
        """By `<namespace>/<budget>`, of the whole cluster."""
        return {
            name: terms
            for namespace in self.namespaces()
            for name, terms in self.compiled(namespace).budgets_in_force().items()
        }

    # RouteSource

    def config_for(self, namespace: str, labels: Mapping[str, str]) -> ProxyConfig:
        return self.compiled(namespace).config_for(labels)

    def credentials_for(self, namespace: str, labels: Mapping[str, str]) -> tuple[MountedKey, ...]:
        return self.compiled(namespace).credentials_for(labels)

    def labels_of(self, namespace: str, pod: str, uid: str) -> Mapping[str, str] | None:
        seen = self.object(Kind.POD, namespace, pod)
        return seen.labels if seen is not None and seen.uid == uid else None

    def revision(self, namespace: str, pod: str) -> tuple[int, int]:
        home = self._namespaces.get(namespace)
        if home is None:
            return (0, 0)
        seen = home.objects[Kind.POD].get(pod)
        return (home.revision, seen.version if seen is not None else 0)

    async def changed(self, namespace: str, pod: str, revision: tuple[int, int]) -> None:
        while self.revision(namespace, pod) == revision:
            home = self._namespaces.setdefault(namespace, _Namespace(revision=0))
            poll: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            home.polls.setdefault(pod, set()).add(poll)
            try:
                await poll
            finally:
                polls = home.polls.get(pod, set())
                polls.discard(poll)
                if not polls:
                    home.polls.pop(pod, None)

    def _bump(self, home: _Namespace, seen: Seen) -> None:
        if seen.kind is Kind.POD:
            # Of a thousand pods of one namespace that are replaced, each would wake the polls of all.
            home.wake((seen.name,))
            return
        home.changes(seen.kind, seen.name)
        home.revision += 1
        home.wake(tuple(home.polls))

    def _keep(self, seen: Seen) -> None:
        """Every replica does: the next leader may be the one that has to settle it."""
        if seen.message:
            self._messages[seen.uid] = seen.message
            if len(self._messages) > MESSAGES_MAX:
                self._messages.popitem(last=False)

    def _bury(self, uid: str) -> None:
        self._gone[uid] = None
        if len(self._gone) > GONE_MAX:
            self._gone.popitem(last=False)

    def _buried(self, seen: Seen) -> None:
        self._bury(seen.uid)
        if seen.kind is Kind.POD and not seen.over:
            self.on_pod_gone(seen.uid)


def _checkpoint(status: Json) -> Checkpoint | None:
    amounts = member(status, "amounts")
    committed, shards = amounts.get("committed"), amounts.get("shards")
    window = member(status, "window").get("id")
    if not (isinstance(committed, int) and isinstance(window, str) and window):
        return None
    return Checkpoint(
        window, committed, tuple(each for each in shards if isinstance(each, int)) if isinstance(shards, list) else ()
    )


def last_message(pod: Json) -> str:
    """The termination message of the sidecar, if no other instance of it can follow.

    Before that one might run which has spent more than the one before it said: on a node that is cut
    off, or after a deletion by force. Only the kubelet ends a pod's phase, and after all of its
    containers; but for the collector of lost pods, which leaves a condition.
    """
    status = member(pod, "status")
    collected = any(each.get("reason") == "DeletionByPodGC" for each in objects(status, "conditions"))
    if status.get("phase") not in POD_OVER or collected:
        return ""
    for container in objects(status, "initContainerStatuses"):
        if container.get("name") == CONTAINER:
            return str(member(member(container, "state"), "terminated").get("message") or "")
    return ""


def _matters(home: _Namespace, before: Seen | None, seen: Seen) -> bool:
    """Whether what sidecars obey may differ: status figures change often and do not count."""
    if before is None or before.uid != seen.uid:
        return True
    if seen.kind is Kind.POD:
        return before.labels != seen.labels
    if _generation(before) != _generation(seen):  # another spec
        return True
    return _last_accepted(before) != _last_accepted(seen) and not home.obeys(seen.kind, seen.name)


def _generation(seen: Seen) -> object:
    return member(seen.raw, "metadata").get("generation")


def _last_accepted(seen: Seen) -> object:
    return member(seen.raw, "status").get("lastAccepted")
