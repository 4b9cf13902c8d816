"""What the kubelet mounts for a sidecar: single keys of Secrets and ConfigMaps, named by the file that each becomes."""

from __future__ import annotations

from dataclasses import dataclass

SECRET = "Secret"
CONFIG_MAP = "ConfigMap"


@dataclass(frozen=True, slots=True, order=True)
class MountedKey:
    """A key of an object in the pod's own namespace."""

    name: str
    key: str
    kind: str = SECRET

    @property
    def path(self) -> str:
        """Below the sidecar's directory of credentials; no Secret's name has capital letters."""
        return f"{self.name}/{self.key}" if self.kind == SECRET else f"{self.kind}/{self.name}/{self.key}"

    @property
    def text(self) -> str:
        """For messages: kind, name and key."""
        return f"{self.kind} {self.name} with key {self.key}"

    @classmethod
    def of(cls, path: str) -> MountedKey:
        """From `path`."""
        *above, name, key = path.split("/")
        return cls(name, key, above[0] if above else SECRET)
