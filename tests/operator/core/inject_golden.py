"""Golden files of the injector: each holds a pod and what becomes of it.

`python tests/operator/core/inject_golden.py` writes the second documents anew; review the difference.
"""

from __future__ import annotations

import copy
from pathlib import Path

import yaml

from keelage_api.mounted import MountedKey
from keelage_operator.core.inject import Injected, InjectionPlan, NotInjected, PatchOp, inject
from keelage_operator.core.sidecar_template import SidecarTemplate

FOLDER = Path(__file__).parent / "inject"

TEMPLATE = SidecarTemplate(
    image="keelage/sidecar:0.1.0",
    operator_url="https://keelage.keelage-system.svc:8443",
    ca_pem=b"-----BEGIN CERTIFICATE-----\n",
)
KEYS = (MountedKey("llm-keys", "openai"), MountedKey("llm-keys", "anthropic"), MountedKey("lab", "token"))
PLAN = InjectionPlan(TEMPLATE, credentials=KEYS)

Json = dict[str, object]


def patched(pod: Json, patch: tuple[PatchOp, ...]) -> Json:
    """What the API server makes of pod and patch; only `add` two levels down is needed."""
    result = copy.deepcopy(pod)
    for op in patch:
        _, top, member = op.path.split("/")
        parent = result[top]
        assert isinstance(parent, dict)
        parent[member] = copy.deepcopy(op.value)
    return result


def outcome(pod: Json, plan: InjectionPlan = PLAN) -> Json:
    """The second document of a golden file."""
    match inject(pod, plan):
        case Injected(patch, warnings):
            return {"warnings": list(warnings), "pod": patched(pod, patch)}
        case NotInjected(reason, message, refused):
            return {"reason": reason, "message": message, "refused": refused}


def load(file: Path) -> tuple[Json, Json]:
    pod, expected = yaml.safe_load_all(file.read_text())
    assert isinstance(pod, dict)
    assert isinstance(expected, dict)
    return pod, expected


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def write() -> None:
    for file in sorted(FOLDER.glob("*.yaml")):
        pod = next(iter(yaml.safe_load_all(file.read_text())))
        text = yaml.dump_all([pod, outcome(pod)], Dumper=_Plain, sort_keys=False, width=110, explicit_start=True)
        file.write_text(text)


if __name__ == "__main__":
    write()
