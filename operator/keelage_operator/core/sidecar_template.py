"""The sidecar as the injector writes it: one container, its volumes, the application's environment.

Everything that may change without a restart of the pod is in the pushed configuration,
not here. The profile is the restricted Pod Security Standard.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from keelage_api.mounted import SECRET, MountedKey

CONTAINER = "keelage"
UID = 65532
"""Nobody else's: an application with the same uid could read the sidecar's files with a shared process namespace."""

PROXY_PORT = 4000
HEALTH_PORT = 4001
TOKEN_AUDIENCE = "keelage"
TOKEN_SECONDS = 3600

TOKEN_DIR = "/var/run/secrets/keelage"
CREDENTIALS_DIR = "/var/run/keelage/credentials"
STATE_DIR = "/var/lib/keelage"
WILL_FILE = "/dev/termination-log"
"""What stands in it when the container dies, the kubelet publishes in the pod's status."""
API_TOKEN_DIR = "/var/run/secrets/kubernetes.io/serviceaccount"
"""The ServiceAccount admission plugin mounts the application's token here unless something is mounted already."""

TOKEN_VOLUME = "keelage-token"
CREDENTIALS_VOLUME = "keelage-credentials"
STATE_VOLUME = "keelage-state"
EMPTY_VOLUME = "keelage-empty"

USER_LABEL = "keelage.dev/user"
FEATURE_LABEL = "keelage.dev/feature"
TASK_TYPE_LABEL = "keelage.dev/task-type"

PLACEHOLDER_KEY = "keelage-sidecar-holds-the-key"
APP_ENV: tuple[tuple[str, str], ...] = (
    ("ANTHROPIC_BASE_URL", f"http://127.0.0.1:{PROXY_PORT}"),
    ("ANTHROPIC_API_KEY", PLACEHOLDER_KEY),
    ("OPENAI_BASE_URL", f"http://127.0.0.1:{PROXY_PORT}/v1"),
    ("OPENAI_API_KEY", PLACEHOLDER_KEY),
)
"""What unmodified SDKs read. They refuse to start without a key, hence the placeholders."""


@dataclass(frozen=True, slots=True)
class SidecarTemplate:
    """What the operator's settings say about every sidecar."""

    image: str
    operator_url: str
    """`https://<service>.<namespace>.svc:8443`."""
    ca_pem: bytes
    """Trust bundle of the operator's authority; public."""
    pull_policy: str = "IfNotPresent"
    requests: tuple[tuple[str, str], ...] = (("cpu", "20m"), ("memory", "64Mi"))
    limits: tuple[tuple[str, str], ...] = (("memory", "256Mi"),)
    guaranteed_cpu: str = "250m"
    """CPU for a pod of the Guaranteed class, which a container without equal limits would end."""
    drain_s: str = "1"
    """The kubelet leaves a sidecar two seconds when the application used up the grace period."""
    log_level: str = ""
    """Of calls; empty: the sidecar's own default."""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What of the pod the sidecar depends on."""

    credentials: tuple[MountedKey, ...]
    """To mount: providers' keys and authorities."""
    user: str
    feature: str
    task_type: str
    guaranteed: bool


def container(template: SidecarTemplate, facts: PodFacts) -> dict[str, object]:
    """A native sidecar: an init container that goes on running."""
    if facts.guaranteed:
        limits = {"cpu": template.guaranteed_cpu, **dict(template.limits)}
        limits.setdefault("memory", "256Mi")
        resources: dict[str, object] = {"requests": dict(limits), "limits": limits}
    else:
        resources = {"requests": dict(template.requests), "limits": dict(template.limits)}
    return {
        "name": CONTAINER,
        "image": template.image,
        "imagePullPolicy": template.pull_policy,
        "restartPolicy": "Always",
        "env": _environment(template, facts),
        "ports": [{"name": "keelage-health", "containerPort": HEALTH_PORT, "protocol": "TCP"}],
        "resources": resources,
        # The next init container starts when this passes, so a short period is start-up time of every pod.
        "startupProbe": _probe("/startedz", period_s=1, failures=180),
        # Only a stuck event loop fails it, never a missing operator: a restart cuts running streams.
        "livenessProbe": _probe("/livez", period_s=10, failures=6),
        "terminationMessagePath": WILL_FILE,
        "terminationMessagePolicy": "File",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsGroup": UID,
            "runAsNonRoot": True,
            "runAsUser": UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": _mounts(facts),
    }


def volumes(facts: PodFacts) -> list[dict[str, object]]:
    """Token, journal, an empty directory over the API token, and the Secrets by reference."""
    found: list[dict[str, object]] = [
        {
            "name": TOKEN_VOLUME,
            "projected": {
                "sources": [
                    {
                        "serviceAccountToken": {
                            "audience": TOKEN_AUDIENCE,
                            "expirationSeconds": TOKEN_SECONDS,
                            "path": "token",
                        }
                    }
                ]
            },
        },
        {"name": STATE_VOLUME, "emptyDir": {"sizeLimit": "32Mi"}},
        # Read-only where it is mounted. The directory itself takes a block: with a limit below that
        # the kubelet evicts the pod.
        {"name": EMPTY_VOLUME, "emptyDir": {"sizeLimit": "1Mi"}},
    ]
    if facts.credentials:
        by_object: dict[tuple[str, str], list[MountedKey]] = {}
        for each in sorted(set(facts.credentials)):
            by_object.setdefault((each.kind, each.name), []).append(each)
        # Optional: a Secret that comes later must not keep the pod from starting; the sidecar says what is missing.
        sources: list[dict[str, object]] = [
            {
                "secret" if kind == SECRET else "configMap": {
                    "name": name,
                    "optional": True,
                    "items": [{"key": each.key, "path": each.path} for each in keys],
                }
            }
            for (kind, name), keys in by_object.items()
        ]
        found.append({"name": CREDENTIALS_VOLUME, "projected": {"sources": sources}})
    return found


def _environment(template: SidecarTemplate, facts: PodFacts) -> list[dict[str, object]]:
    pairs = [
        ("KEELAGE_OPERATOR", template.operator_url),
        ("KEELAGE_CA", base64.b64encode(template.ca_pem).decode("ascii")),
        ("KEELAGE_TOKEN_FILE", f"{TOKEN_DIR}/token"),
        ("KEELAGE_CREDENTIALS_DIR", CREDENTIALS_DIR),
        ("KEELAGE_STATE_DIR", STATE_DIR),
        ("KEELAGE_WILL_FILE", WILL_FILE),
        ("KEELAGE_LISTEN", f"127.0.0.1:{PROXY_PORT}"),
        ("KEELAGE_HEALTH", f"0.0.0.0:{HEALTH_PORT}"),
        ("KEELAGE_USER", facts.user),
        ("KEELAGE_FEATURE", facts.feature),
        ("KEELAGE_TASK_TYPE", facts.task_type),
        ("KEELAGE_DRAIN_S", template.drain_s),
        ("KEELAGE_LOG_LEVEL", template.log_level),
    ]
    # The API server leaves an empty value out: written, it would look changed at every second look.
    found: list[dict[str, object]] = [{"name": name, "value": value} for name, value in pairs if value]
    # At admission a pod of a ReplicaSet has no name yet.
    found.append({"name": "KEELAGE_POD", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}})
    return found


def _mounts(facts: PodFacts) -> list[dict[str, object]]:
    mounts: list[dict[str, object]] = [
        {"name": TOKEN_VOLUME, "mountPath": TOKEN_DIR, "readOnly": True},
        {"name": STATE_VOLUME, "mountPath": STATE_DIR},
        {"name": EMPTY_VOLUME, "mountPath": API_TOKEN_DIR, "readOnly": True},
    ]
    if facts.credentials:
        mounts.append({"name": CREDENTIALS_VOLUME, "mountPath": CREDENTIALS_DIR, "readOnly": True})
    return mounts


def _probe(path: str, period_s: int, failures: int) -> dict[str, object]:
    return {
        "httpGet": {"path": path, "port": HEALTH_PORT},
        "periodSeconds": period_s,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }
