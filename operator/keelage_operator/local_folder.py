"""A folder of manifests, as `keelage run -f DIR` reads it: what kubectl would be given.

Kinds that local mode has no use for (Deployment, Namespace …) are passed over, so
that the folder can be the one that is applied to a cluster.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from keelage_api.errors import ManifestError
from keelage_api.v1alpha1.metadata import GROUP, VERSION
from keelage_operator.core.yaml_place import doubled_key, line_of, node_of, written_out

API_VERSION = f"{GROUP}/{VERSION}"
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*")
NAME_FORM = "must be lower-case letters, digits, '-' and '.', as in shop-month"
KINDS = ("LLMRoute", "LLMBudget")
FILES_MAX = 1_000
"""More is surely the wrong folder."""
NODES_MAX = 1_000_000
"""Of a document, aliases written out: few lines can stand for billions, and a larger one the API server never takes."""


@dataclass(frozen=True, slots=True)
class Manifest:
    kind: str
    name: str
    namespace: str
    file: str
    document: yaml.Node
    raw: Mapping[str, object]

    @property
    def source(self) -> str:
        """`<file>:<line>`."""
        return f"{self.file}:{self.document.start_mark.line + 1}"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something in a file that is no manifest."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


Values = Mapping[str, bytes]
"""Of a Secret or ConfigMap, by key."""


@dataclass(slots=True)
class Survey:
    """All that is in a folder, the good and the bad."""

    manifests: list[Manifest] = field(default_factory=list)
    """Routes and budgets, in the order of files and documents."""
    secrets: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    """By namespace and name. Never shown."""
    config_maps: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Folder:
    namespace: str
    manifests: tuple[Manifest, ...]
    """Routes and budgets, in the order of files and documents."""
    secrets: Mapping[str, Values]
    """By name. Never shown."""
    config_maps: Mapping[str, Values]
    """By name: authorities of private backends."""


def read_folder(path: Path) -> Folder:
    """Read every *.yaml, *.yml and *.json below `path`, or the one file that it is, for one sidecar to obey.

    Raises ManifestError, naming file, line and remedy, for what cannot be read, for two
    manifests of one kind and name, and for routes and budgets of several namespaces.
    """
    found = survey(path)
    if found.faults:
        raise ManifestError(str(found.faults[0]))
    namespaces = sorted({manifest.namespace for manifest in found.manifests})
    if len(namespaces) > 1:
        raise ManifestError(f"{path}: routes and budgets of namespaces {', '.join(namespaces)}: keep one per folder")
    if not any(manifest.kind == "LLMRoute" for manifest in found.manifests):
        raise ManifestError(f"{path}: no LLMRoute in it: see examples/ for one to begin with")
    return Folder(namespaces[0], tuple(found.manifests), _by_name(found.secrets), _by_name(found.config_maps))


def survey(path: Path) -> Survey:
    """Everything in the folder, of all namespaces. Raises ManifestError where there is no folder of manifests."""
    if not path.exists():
        raise ManifestError(f"{path}: no such file or folder")
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in (".yaml", ".yml", ".json"))
    if len(files) > FILES_MAX:
        raise ManifestError(f"{path}: {len(files)} manifests in it: name the folder that holds yours")
    found = Survey()
    for file in files:
        try:
            for document, raw in _documents(file):
                _take(found, str(file), document, raw)
        except _Unreadable as error:
            found.faults.append(Fault(str(file), error.line, str(error)))
    return found


def _documents(file: Path) -> Iterator[tuple[yaml.Node, object]]:
    """Each with where it stands; those that are empty are passed over."""
    try:
        data = file.read_bytes()
        loader = yaml.SafeLoader(data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _Unreadable(line, f"cannot be read: byte 0x{data[error.start]:02x} is no UTF-8: save it so") from error
    except OSError as error:
        raise _Unreadable(1, f"cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise _Unreadable(1, f"cannot be read: {error}") from error
    try:
        while loader.check_node():
            document = loader.get_node()
            assert document is not None, "check_node says that there is one"
            line = document.start_mark.line + 1
            if written_out(document) > NODES_MAX:
                raise _Unreadable(
                    line, f"its aliases stand for more than {NODES_MAX:,} values: write out what is meant"
                )
            value: object = loader.construct_document(document)
            if value is not None:
                yield document, value
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _Unreadable(1 if mark is None else mark.line + 1, f"cannot be read: {_why(error)}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a ValueError: of a date that there is not
        raise _Unreadable(1, f"cannot be read: {error}") from error
    finally:
        loader.dispose()


def _why(error: yaml.MarkedYAMLError) -> str:
    """What the parser says, and where what it was in the middle of begins."""
    begun, at = error.context_mark, error.problem_mark
    since = f" that begins in line {begun.line + 1}" if begun and at and begun.line != at.line else ""
    return ", ".join(part for part in (f"{error.context}{since}" if error.context else "", error.problem) if part)


def _take(found: Survey, file: str, document: yaml.Node, raw: object) -> None:
    """Add one document to what was found, or what is wrong with it."""

    def fault(text: str, at: str = "") -> None:
        found.faults.append(Fault(file, line_of(document, at), text))

    if not isinstance(raw, Mapping):
        return fault("not a manifest: write one object per document")
    kind, metadata, items = raw.get("kind"), raw.get("metadata"), raw.get("items")
    if kind == "List" and isinstance(items, list):
        for index, item in enumerate(items):
            _take(found, file, node_of(document, f"items[{index}]"), item)
        return None
    if not isinstance(kind, str) or not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str):
        return fault("not a manifest: kind and metadata.name are required")
    name, namespace = str(metadata["name"]), str(metadata.get("namespace") or "default")
    if kind == "Secret":
        held, coded = found.secrets, {"data": True, "stringData": False}
    elif kind == "ConfigMap":
        held, coded = found.config_maps, {"data": False, "binaryData": True}
    elif kind not in KINDS:
        if str(raw.get("apiVersion", "")).startswith(f"{GROUP}/"):
            return fault(f"{kind} {name}: {GROUP} has no such kind to write: it has {' and '.join(KINDS)}", "kind")
        return None
    else:
        if (given := raw.get("apiVersion", API_VERSION)) != API_VERSION:
            return fault(f"{kind} {name}: apiVersion {given!r} is not served: write {API_VERSION}", "apiVersion")
        if (double := doubled_key(document)) is not None:
            key, line = double
            found.faults.append(
                Fault(file, line, f"{kind} {name}: {key} stands twice in one object: remove one of them")
            )
            return None
        if not NAME.fullmatch(name):
            return fault(f"{kind} {name}: metadata.name {NAME_FORM}", "metadata.name")
        for other in found.manifests:
            if (other.kind, other.namespace, other.name) == (kind, namespace, name):
                return fault(f"{kind} {name} is also in {other.source}: remove one of them", "metadata.name")
        found.manifests.append(Manifest(kind, name, namespace, file, document, raw))
        return None
    try:
        held.setdefault((namespace, name), {}).update(_values(f"{kind} {name}", raw, coded))
    except _BadValue as error:
        return fault(str(error), error.at)
    return None


class _Unreadable(ManifestError):
    """What keeps the rest of a file from being read."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


class _BadValue(ManifestError):
    """What a key of a Secret or ConfigMap cannot hold."""

    def __init__(self, at: str, text: str) -> None:
        super().__init__(text)
        self.at = at


def _by_name(held: Mapping[tuple[str, str], Values]) -> dict[str, Values]:
    """Whatever their namespaces: who runs a folder on a laptop has one pod, and writes its Secrets for it."""
    merged: dict[str, dict[str, bytes]] = {}
    for (_, name), values in held.items():
        merged.setdefault(name, {}).update(values)
    return dict(merged)


def _values(which: str, raw: Mapping[str, object], fields: Mapping[str, bool]) -> dict[str, bytes]:
    """Values of a Secret or ConfigMap, by field and whether it is in base64; no message ever holds a value."""
    values: dict[str, bytes] = {}
    for name, coded in fields.items():
        entries = raw.get(name) or {}
        if not isinstance(entries, Mapping):
            raise _BadValue(name, f"{which}: {name} must be an object of strings")
        for key, value in entries.items():
            at = f"{name}.{key}"
            if not isinstance(value, str):
                raise _BadValue(at, f"{which}: {at} must be a string")
            if not coded:
                values[str(key)] = value.encode()
                continue
            try:
                values[str(key)] = base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError) as error:
                plain = next(other for other, in_base64 in fields.items() if not in_base64)
                raise _BadValue(at, f"{which}: {at} is not base64: write it under {plain} instead") from error
    return values
