"""The operator's environment, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keelage_api.errors import KeelageError
from keelage_operator.core.sidecar_template import SidecarTemplate

LOG_LEVELS = ("debug", "info", "warning", "error")
PULL_POLICIES = ("Always", "IfNotPresent", "Never")


class SettingsError(KeelageError):
    """An environment variable is missing or wrong; whoever deploys the operator can mend it."""


@dataclass(frozen=True)  # no slots: `read` takes the defaults from the class
class Settings:
    pod_name: str
    """POD_NAME; with `pod_ip`, the identity in the leader's Lease."""
    pod_ip: str
    """POD_IP: sidecars call the leader by it."""
    namespace: str
    """POD_NAMESPACE: of the Lease, the authority's Secret and the Service."""
    sidecar_image: str
    """KEELAGE_SIDECAR_IMAGE: what is injected."""
    service: str = "keelage"
    """KEELAGE_SERVICE: name of the Service in front of the replicas."""
    webhooks: str = "keelage"
    """KEELAGE_WEBHOOKS: name of both webhook configurations."""
    authority_secret: str = "keelage-authority"
    """KEELAGE_AUTHORITY_SECRET: where the replicas share their certificate authority."""
    excluded_namespaces: tuple[str, ...] = ()
    """KEELAGE_EXCLUDED_NAMESPACES: `a,b`; there nothing is injected. Neither is it in kube-system and here."""
    https_port: int = 8443
    """KEELAGE_HTTPS_PORT: admission and control channel."""
    health_port: int = 8080
    """KEELAGE_HEALTH_PORT: /livez, /readyz, /metrics."""
    log_level: str = "info"
    """KEELAGE_LOG_LEVEL."""
    pull_policy: str = "IfNotPresent"
    """KEELAGE_SIDECAR_PULL_POLICY."""
    sidecar_requests: tuple[tuple[str, str], ...] = (("cpu", "20m"), ("memory", "64Mi"))
    """KEELAGE_SIDECAR_REQUESTS: `cpu=20m,memory=64Mi`."""
    sidecar_limits: tuple[tuple[str, str], ...] = (("memory", "256Mi"),)
    """KEELAGE_SIDECAR_LIMITS."""
    sidecar_log_level: str = "info"
    """KEELAGE_SIDECAR_LOG_LEVEL: which calls sidecars log until told otherwise."""

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Settings:
        """Raises SettingsError, which names the variable."""
        found = _Environment(environment)
        return cls(
            pod_name=found.required("POD_NAME"),
            pod_ip=found.required("POD_IP"),
            namespace=found.required("POD_NAMESPACE"),
            sidecar_image=found.required("KEELAGE_SIDECAR_IMAGE"),
            service=found.text("KEELAGE_SERVICE", cls.service),
            webhooks=found.text("KEELAGE_WEBHOOKS", cls.webhooks),
            authority_secret=found.text("KEELAGE_AUTHORITY_SECRET", cls.authority_secret),
            excluded_namespaces=tuple(filter(None, found.text("KEELAGE_EXCLUDED_NAMESPACES", "").split(","))),
            https_port=found.port("KEELAGE_HTTPS_PORT", cls.https_port),
            health_port=found.port("KEELAGE_HEALTH_PORT", cls.health_port),
            log_level=found.one_of("KEELAGE_LOG_LEVEL", LOG_LEVELS, cls.log_level),
            pull_policy=found.one_of("KEELAGE_SIDECAR_PULL_POLICY", PULL_POLICIES, cls.pull_policy),
            sidecar_requests=found.quantities("KEELAGE_SIDECAR_REQUESTS", cls.sidecar_requests),
            sidecar_limits=found.quantities("KEELAGE_SIDECAR_LIMITS", cls.sidecar_limits),
            sidecar_log_level=found.one_of("KEELAGE_SIDECAR_LOG_LEVEL", LOG_LEVELS, cls.sidecar_log_level),
        )

    @property
    def excluded(self) -> frozenset[str]:
        """Namespaces in which admission is not asked."""
        return frozenset(("kube-system", self.namespace, *self.excluded_namespaces))

    @property
    def identity(self) -> str:
        """Of this replica in the Lease: `<pod>_<host>:<port>`."""
        host = f"[{self.pod_ip}]" if ":" in self.pod_ip else self.pod_ip
        return f"{self.pod_name}_{host}:{self.https_port}"

    def template(self, ca_pem: bytes) -> SidecarTemplate:
        """What is injected; `ca_pem` is the trust bundle now."""
        return SidecarTemplate(
            image=self.sidecar_image,
            operator_url=f"https://{self.service}.{self.namespace}.svc:8443",
            ca_pem=ca_pem,
            pull_policy=self.pull_policy,
            requests=self.sidecar_requests,
            limits=self.sidecar_limits,
            log_level=self.sidecar_log_level,
        )


@dataclass(frozen=True, slots=True)
class _Environment:
    values: Mapping[str, str]

    def text(self, name: str, default: str) -> str:
        return self.values.get(name, "").strip() or default

    def required(self, name: str) -> str:
        value = self.text(name, "")
        if not value:
            raise SettingsError(f"{name} is not set: the chart sets it; outside a cluster set it by hand")
        return value

    def port(self, name: str, default: int) -> int:
        value = self.text(name, str(default))
        if not value.isdigit() or not 0 < int(value) < 65536:
            raise SettingsError(f"{name}={value}: must be a port from 1 to 65535")
        return int(value)

    def one_of(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        value = self.text(name, default)
        if value not in allowed:
            raise SettingsError(f"{name}={value}: must be one of {', '.join(allowed)}")
        return value

    def quantities(self, name: str, default: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        """`-` stands for none at all."""
        value = self.text(name, "")
        if not value:
            return default
        if value == "-":
            return ()
        pairs = []
        for part in value.split(","):
            resource, _, amount = part.strip().partition("=")
            if not resource or not amount:
                raise SettingsError(f"{name}={value}: must be a list such as cpu=20m,memory=64Mi")
            pairs.append((resource, amount))
        return tuple(pairs)
