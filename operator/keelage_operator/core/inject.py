"""Pod to JSON patch: the sidecar first among the init containers, the SDKs pointed at it.

Pure and idempotent: a pod that is injected already gets no patch, one from which another
webhook dropped a part is repaired. Unknown fields of the pod are never touched.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from keelage_api.mounted import MountedKey
from keelage_operator.core.sidecar_template import (
    APP_ENV,
    CONTAINER,
    CREDENTIALS_VOLUME,
    EMPTY_VOLUME,
    FEATURE_LABEL,
    HEALTH_PORT,
    PROXY_PORT,
    STATE_VOLUME,
    TASK_TYPE_LABEL,
    TOKEN_VOLUME,
    USER_LABEL,
    PodFacts,
    SidecarTemplate,
    container,
    volumes,
)

INJECT_LABEL = "keelage.dev/inject"
INJECTED_LABEL = "keelage.dev/injected"
IMAGE_ANNOTATION = "keelage.dev/sidecar-image"
TEMPLATE_ANNOTATION = "keelage.dev/sidecar-template"
KEPT_ANNOTATION = "keelage.dev/kept-env"
"""`container: NAME, ...` that the user had set; calls that they lead elsewhere are not metered."""

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class InjectionPlan:
    template: SidecarTemplate
    credentials: tuple[MountedKey, ...] = ()
    """Keys and authorities that the pod's routes name."""


@dataclass(frozen=True, slots=True)
class PatchOp:
    """A JSON patch operation; `add` on a member that exists replaces it (RFC 6902, 4.1)."""

    path: str
    value: object


@dataclass(frozen=True, slots=True)
class Injected:
    patch: tuple[PatchOp, ...]
    """Empty: the pod is as it should be."""
    warnings: tuple[str, ...] = ()
    """For whoever creates the pod; kubectl prints them."""


@dataclass(frozen=True, slots=True)
class NotInjected:
    reason: str
    """Stable CamelCase token."""
    message: str
    refused: bool
    """The pod must not be created; otherwise it is let through as it is."""


def inject(pod: Mapping[str, object], plan: InjectionPlan) -> Injected | NotInjected:
    """What to change in a pod that is being created."""
    wanted = copy.deepcopy(dict(pod))
    metadata, spec = _member(wanted, "metadata"), _member(wanted, "spec")
    labels = _member(metadata, "labels")
    if labels.get(INJECT_LABEL) == "false":
        return NotInjected("OptedOut", f"label {INJECT_LABEL} is false", refused=False)
    refusal = _refusal(spec)
    if refusal is not None:
        return refusal

    facts = PodFacts(
        credentials=tuple(sorted(set(plan.credentials))),
        user=str(labels.get(USER_LABEL, "")),
        feature=str(labels.get(FEATURE_LABEL, "")),
        task_type=str(labels.get(TASK_TYPE_LABEL, "")),
        guaranteed=_guaranteed(spec),
    )
    sidecar, own_volumes = container(plan.template, facts), volumes(facts)
    refusal = _taken_volume(spec, own_volumes)
    if refusal is not None:
        return refusal
    kept = [note for app in _applications(spec) for note in _point_at_sidecar(app)]
    _put_first(spec, sidecar)
    _put_volumes(spec, own_volumes)
    labels[INJECTED_LABEL] = "true"
    metadata["labels"] = labels
    annotations = _member(metadata, "annotations")
    annotations[IMAGE_ANNOTATION] = plan.template.image
    annotations[TEMPLATE_ANNOTATION] = template_hash(sidecar, own_volumes)
    if kept:
        annotations[KEPT_ANNOTATION] = "; ".join(note.text for note in kept)
    metadata["annotations"] = annotations
    wanted["metadata"], wanted["spec"] = metadata, spec

    warnings = [note.warning for note in kept]
    if spec.get("shareProcessNamespace") is True:
        warnings.append(
            "spec.shareProcessNamespace is true: containers that run as root or as uid 65532 can read the provider"
            " key from the keelage sidecar; set it to false"
        )
    return Injected(_patch(pod, wanted), tuple(warnings))


def template_hash(sidecar: Json, own_volumes: list[Json]) -> str:
    """Digest of all that the injector put in; a pod with another one has an outdated sidecar."""
    text = json.dumps([sidecar, own_volumes], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class _Kept:
    text: str
    warning: str


def _refusal(spec: Json) -> NotInjected | None:
    if spec.get("hostNetwork") is True:
        return NotInjected(
            "HostNetwork",
            "spec.hostNetwork is true: 127.0.0.1 is then the node's, and every process there could use the provider"
            f" key; remove hostNetwork, or label the pod {INJECT_LABEL}=false",
            refused=True,
        )
    system = spec.get("os")
    if isinstance(system, dict) and system.get("name") == "windows":
        return NotInjected("Windows", "spec.os.name is windows: the sidecar runs on Linux only", refused=False)
    for app in _applications(spec):
        name = app.get("name", "")
        if name == CONTAINER:
            return NotInjected(
                "NameTaken",
                f"container name {CONTAINER!r} is the sidecar's: rename the container,"
                f" or label the pod {INJECT_LABEL}=false",
                refused=True,
            )
        for port in _objects(app.get("ports")):
            number = port.get("containerPort")
            if number in (PROXY_PORT, HEALTH_PORT) and port.get("protocol", "TCP") == "TCP":
                return NotInjected(
                    "PortTaken",
                    f"container {name!r} uses port {number}, which the keelage sidecar needs (it listens on"
                    f" {PROXY_PORT} and {HEALTH_PORT}): choose another, or label the pod {INJECT_LABEL}=false",
                    refused=True,
                )
    return None


def _taken_volume(spec: Json, own: list[Json]) -> NotInjected | None:
    """A volume of the user's under one of our names: replaced, it would take the user's data away, and a container
    that mounts it would see the provider key."""
    wanted = {str(volume["name"]): volume for volume in own}
    reserved = (TOKEN_VOLUME, CREDENTIALS_VOLUME, STATE_VOLUME, EMPTY_VOLUME)
    # Admission looks again, or the pod is a copy of an injected one: then what is there is ours.
    injected = any(_is_ours(each) for each in _objects(spec.get("initContainers")))
    for volume in () if injected else _objects(spec.get("volumes")):
        name = str(volume.get("name"))
        if name in reserved and (name not in wanted or not _covers(volume, wanted[name])):
            return NotInjected(
                "VolumeTaken",
                f"volume name {name!r} is the sidecar's: rename the volume, or label the pod {INJECT_LABEL}=false",
                refused=True,
            )
    for app in _applications(spec):
        for mount in _objects(app.get("volumeMounts")):
            if mount.get("name") in reserved:
                return NotInjected(
                    "VolumeTaken",
                    f"container {app.get('name', '')!r} mounts volume {mount.get('name')!r}, which is the sidecar's:"
                    " mount one of its own",
                    refused=True,
                )
    return None


def _applications(spec: Json) -> list[Json]:
    """All containers that are not ours, init containers included."""
    return [
        *_objects(spec.get("containers")),
        *(c for c in _objects(spec.get("initContainers")) if not _is_ours(c)),
    ]


def _is_ours(app: Json) -> bool:
    """By name and by what only we set, so that a dropped `restartPolicy` is repaired, not doubled."""
    return app.get("name") == CONTAINER and any(e.get("name") == "KEELAGE_OPERATOR" for e in _objects(app.get("env")))


def _point_at_sidecar(app: Json) -> list[_Kept]:
    """Set the variables that the SDKs read, in front, so that the user's own may refer to them."""
    present = {str(entry.get("name")): entry for entry in _objects(app.get("env"))}
    missing: list[object] = [{"name": name, "value": value} for name, value in APP_ENV if name not in present]
    if missing:
        app["env"] = [*missing, *_objects(app.get("env"))]
    where = str(app.get("name", ""))
    kept: list[_Kept] = []
    for name, value in APP_ENV:
        if name in present and present[name].get("value") != value:
            if name.endswith("_BASE_URL"):
                say = f"container {where!r} sets {name}: its calls go there and are not metered; remove it from env"
            else:
                say = f"container {where!r} sets {name}: the sidecar does not need it there; remove it from env"
            kept.append(_Kept(f"{where}: {name}", say))
    return kept


def _put_first(spec: Json, sidecar: Json) -> None:
    """First, so that other init containers can use it; behind other native sidecars is as good."""
    found = _objects(spec.get("initContainers"))
    before = 0
    while before < len(found) and not _is_ours(found[before]) and found[before].get("restartPolicy") == "Always":
        before += 1
    if before < len(found) and _is_ours(found[before]) and _covers(found[before], sidecar):
        return
    spec["initContainers"] = [sidecar, *(c for c in found if not _is_ours(c))]


def _put_volumes(spec: Json, own: list[Json]) -> None:
    found = _objects(spec.get("volumes"))
    by_name = {str(volume.get("name")): volume for volume in found}
    if all(_covers(by_name.get(str(volume["name"])), volume) for volume in own):
        return
    names = {volume["name"] for volume in own}
    spec["volumes"] = [*(v for v in found if str(v.get("name")) not in names), *own]


def _covers(actual: object, wanted: object) -> bool:
    """`actual` says all that `wanted` says; the API server's defaults and others' additions may stand beside it."""
    if isinstance(wanted, dict):
        return isinstance(actual, dict) and all(k in actual and _covers(actual[k], v) for k, v in wanted.items())
    if isinstance(wanted, list):
        return isinstance(actual, list) and all(any(_covers(a, w) for a in actual) for w in wanted)
    return actual == wanted


def _guaranteed(spec: Json) -> bool:
    """Every container limits cpu and memory and asks for just that (the Guaranteed quality of service)."""
    apps = _applications(spec)
    for app in apps:
        resources = _member(app, "resources")
        limits, requests = _member(resources, "limits"), _member(resources, "requests")
        for unit in ("cpu", "memory"):
            if unit not in limits or requests.get(unit, limits[unit]) != limits[unit]:
                return False
    return bool(apps)


def _patch(before: Mapping[str, object], after: Json) -> tuple[PatchOp, ...]:
    """One operation for each part that we may change, whole parts: short to read and free of index arithmetic."""
    ops: list[PatchOp] = []
    for top, members in (
        ("metadata", ("labels", "annotations")),
        ("spec", ("initContainers", "containers", "volumes")),
    ):
        old, new = _member(before, top), _member(after, top)
        ops.extend(PatchOp(f"/{top}/{m}", new[m]) for m in members if m in new and new[m] != old.get(m))
    return tuple(ops)


def _member(parent: Mapping[str, object], name: str) -> Json:
    """A JSON object below `parent`; a new empty one if it is absent or null."""
    value = parent.get(name)
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
