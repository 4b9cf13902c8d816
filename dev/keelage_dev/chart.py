"""Copies the CRDs into the chart: `python -m keelage_dev.chart write|check`.

In the chart's templates, not in its `crds/` folder: Helm installs that once and never
upgrades it. Behind `crds.install`, and kept at uninstall by `crds.keep`.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "crds"
TARGET = ROOT / "charts" / "keelage" / "templates" / "crds"

_ADDED = """\
  labels:
    {{- include "keelage.labels" . | nindent 4 }}
  {{- if .Values.crds.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
"""


def template(manifest: str) -> str:
    """A CRD's manifest as a template; ValueError if it does not look as the schema writer's do."""
    lines = manifest.splitlines(keepends=True)
    if "metadata:\n" not in lines or lines[(at := lines.index("metadata:\n")) + 2] != "spec:\n":
        raise ValueError("a CRD is expected to have metadata of one line, its name, followed by its spec")
    name = at + 2
    # Braces in a description are text, not a template.
    escaped = ["{{ `" + line[:-1] + "` }}\n" if "{{" in line else line for line in lines]
    note = "{{- /* Copied from crds/ by `python -m keelage_dev.chart write`. */ -}}\n"
    body = "".join(line for line in escaped[:name] if not line.startswith("#")) + _ADDED + "".join(escaped[name:])
    return note + "{{- if .Values.crds.install }}\n" + body + "{{- end }}\n"


def wanted() -> dict[Path, str]:
    """File by path, as the chart should hold them."""
    return {TARGET / source.name: template(source.read_text()) for source in sorted(SOURCE.glob("*.yaml"))}


def stale() -> list[Path]:
    """Files that differ, are missing, or should not be there."""
    files = wanted()
    different = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    return different + [path for path in sorted(TARGET.glob("*")) if path not in files]


def write() -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    files = wanted()
    for path in TARGET.glob("*"):
        if path not in files:
            path.unlink()
    for path, text in files.items():
        path.write_text(text)


def main(words: list[str]) -> int:
    match words:
        case ["write"]:
            write()
            return 0
        case ["check"]:
            for path in stale():
                print(f"{path.relative_to(ROOT)} is not what crds/ says: run `python -m keelage_dev.chart write`")
            return 1 if stale() else 0
        case _:
            print("usage: python -m keelage_dev.chart write|check", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
