"""A folder of manifests, as `keelage run -f DIR` reads it: what kubectl would be given.

Kinds that local mode has no use for (Deployment, Namespace …) are passed over, so
that the folder can be the one that is applied to a cluster.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from keelage_api.errors import ManifestError
from keelage_api.v1alpha1.metadata import GROUP, VERSION

API_VERSION = f"{GROUP}/{VERSION}"
KINDS = ("LLMRoute", "LLMBudget")
FILES_MAX = 1_000
"""More is surely the wrong folder."""


@dataclass(frozen=True, slots=True)
class Manifest:
    kind: str
    name: str
    namespace: str
    source: str
    """`<file>` with the document's number where a file has several."""
    raw: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Folder:
    namespace: str
    manifests: tuple[Manifest, ...]
    """Routes and budgets, in the order of files and documents."""
    secrets: Mapping[str, Mapping[str, bytes]]
    """By name, then key. Never shown."""
    config_maps: Mapping[str, Mapping[str, bytes]]
    """By name, then key: authorities of private backends."""


def read_folder(path: Path) -> Folder:
    """Read every *.yaml, *.yml and *.json below `path`, or the one file that it is.

    Raises ManifestError, naming file and remedy, for what cannot be read, for two
    manifests of one kind and name, and for routes and budgets of several namespaces.
    """
    manifests: list[Manifest] = []
    secrets: dict[str, dict[str, bytes]] = {}
    config_maps: dict[str, dict[str, bytes]] = {}
    for source, raw in _documents(path):
        kind = raw.get("kind")
        metadata = raw.get("metadata")
        if not isinstance(kind, str) or not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str):
            raise ManifestError(f"{source}: not a manifest: kind and metadata.name are required")
        name, namespace = str(metadata["name"]), str(metadata.get("namespace") or "default")
        if kind == "Secret":
            secrets.setdefault(name, {}).update(_values(source, raw, {"data": True, "stringData": False}))
        elif kind == "ConfigMap":
            config_maps.setdefault(name, {}).update(_values(source, raw, {"data": False, "binaryData": True}))
        elif kind in KINDS:
            if (given := raw.get("apiVersion", API_VERSION)) != API_VERSION:
                raise ManifestError(f"{source}: {kind} {name}: apiVersion {given!r} is not served: write {API_VERSION}")
            for other in manifests:
                if (other.kind, other.name) == (kind, name):
                    raise ManifestError(f"{source}: {kind} {name} is also in {other.source}: remove one of them")
            manifests.append(Manifest(kind, name, namespace, source, raw))
    namespaces = sorted({manifest.namespace for manifest in manifests})
    if len(namespaces) > 1:
        raise ManifestError(f"{path}: routes and budgets of namespaces {', '.join(namespaces)}: keep one per folder")
    if not any(manifest.kind == "LLMRoute" for manifest in manifests):
        raise ManifestError(f"{path}: no LLMRoute in it: see examples/ for one to begin with")
    return Folder(namespaces[0], tuple(manifests), secrets, config_maps)


def _documents(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    if not path.exists():
        raise ManifestError(f"{path}: no such file or folder")
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in (".yaml", ".yml", ".json"))
    if len(files) > FILES_MAX:
        raise ManifestError(f"{path}: {len(files)} manifests in it: name the folder that holds yours")
    for file in files:
        try:
            documents = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ManifestError(f"{file}: cannot be read: {error}") from error
        for number, document in enumerate(documents, 1):
            source = f"{file}" if len(documents) == 1 else f"{file} (document {number})"
            if document is None:
                continue
            if not isinstance(document, Mapping):
                raise ManifestError(f"{source}: not a manifest: write one object per document")
            yield source, document


def _values(source: str, raw: Mapping[str, object], fields: Mapping[str, bool]) -> dict[str, bytes]:
    """Values of a Secret or ConfigMap, by field and whether it is in base64; no message ever holds a value."""
    values: dict[str, bytes] = {}
    metadata = raw.get("metadata")
    which = f"{source}: {raw['kind']} {metadata['name'] if isinstance(metadata, Mapping) else ''}"
    for field, coded in fields.items():
        entries = raw.get(field) or {}
        if not isinstance(entries, Mapping):
            raise ManifestError(f"{which}: {field} must be an object of strings")
        for key, value in entries.items():
            if not isinstance(value, str):
                raise ManifestError(f"{which}: {field}.{key} must be a string")
            if not coded:
                values[str(key)] = value.encode()
                continue
            try:
                values[str(key)] = base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError) as error:
                plain = next(name for name, in_base64 in fields.items() if not in_base64)
                raise ManifestError(f"{which}: {field}.{key} is not base64: write it under {plain} instead") from error
    return values
