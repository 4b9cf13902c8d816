"""The manifests of the documentation as they are, but for the backends' address and the namespace."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def documented(example: str, namespace: str, provider: str = "") -> list[dict[str, Any]]:
    """The objects of that file for that namespace, with all backends at `provider`, by default the namespace's own."""
    objects: list[dict[str, Any]] = list(yaml.safe_load_all((EXAMPLES / example).read_text()))
    for each in objects:
        each["metadata"]["namespace"] = namespace
        for backend in each["spec"].get("backends", ()):
            backend["endpoint"] = provider or f"http://provider.{namespace}.svc"
    return objects


def text_of(objects: Iterable[object]) -> str:
    """As kubectl and keelage read it."""
    return yaml.safe_dump_all(objects, sort_keys=False)
