"""Which pods should have a sidecar and run without one: nothing routes or counts what they spend. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from keelage_operator.core.inject import INJECT_LABEL, INJECTED_LABEL
from keelage_operator.core.reconcile import EventPost, EventType, Target

POD_KIND = "Pod"
REASON = "SidecarMissing"

TOLD_MAX = 20
"""Events per look and namespace: the pods of one Deployment all say the same."""

OVER = ("Succeeded", "Failed")
MIRROR = "kubernetes.io/config.mirror"

WANTED_SELECTOR = f"{INJECT_LABEL}!=false,{INJECTED_LABEL}!=true"
"""Of pods in a labelled namespace."""
LABELLED_SELECTOR = f"{INJECT_LABEL}=true,{INJECTED_LABEL}!=true"
"""Of pods that are labelled themselves, in any namespace."""


def bare(pod: Mapping[str, object]) -> Target | None:
    """The pod, if it runs and admission would have given it a sidecar; it was found by one of the selectors."""
    metadata, spec, status = (_object(pod, name) for name in ("metadata", "spec", "status"))
    if status.get("phase") in OVER or metadata.get("deletionTimestamp"):
        return None
    if MIRROR in _object(metadata, "annotations") or _object(spec, "os").get("name") == "windows":
        return None
    return Target(POD_KIND, str(metadata.get("namespace")), str(metadata.get("name")), str(metadata.get("uid")))


def told(pods: Sequence[Target]) -> tuple[EventPost, ...]:
    """One Event per pod, the same at every look: the API server keeps it once, and about an hour."""
    return tuple(
        EventPost(
            pod,
            EventType.WARNING,
            REASON,
            f"pod {pod.namespace}/{pod.name} is to have the keelage sidecar (label {INJECT_LABEL}) and runs without it:"
            " its calls are neither routed nor counted. It was created before the label was set, or while admission"
            " did not answer: restart its workload (kubectl rollout restart), or delete the pod",
            f"{pod.uid[:8]}.sidecar-missing",
        )
        for pod in sorted(pods, key=lambda each: each.name)[:TOLD_MAX]
    )


def _object(parent: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = parent.get(name)
    return value if isinstance(value, dict) else {}
