"""Image archives: from the docker-archive that buildah writes, only the layers that a cluster lacks.

Three images share a base of a hundred megabytes, and a change of code touches the last
layer only: importing the rest again took most of a rebuild's time.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True, slots=True)
class Contents:
    """What a docker-archive's manifest.json names (Docker image specification 1.2, one image)."""

    config: bytes
    layers: tuple[str, ...]  # members of the archive, base first
    digests: tuple[str, ...]  # of the same layers, uncompressed: `sha256:...`


def contents(archive: tarfile.TarFile) -> Contents:
    """Read manifest and configuration of the archive's only image."""
    (manifest,) = json.loads(_read(archive, "manifest.json"))
    config = _read(archive, manifest["Config"])
    return Contents(config, tuple(manifest["Layers"]), tuple(json.loads(config)["rootfs"]["diff_ids"]))


def pack(source: Path, reference: str, present: Collection[str], target: Path) -> None:
    """Write an OCI layout tar of `source` to `target`, without the layers whose digests are `present`.

    `reference` is the full name under which the image is to appear, with registry and tag.
    """
    with tarfile.open(source) as archive, tarfile.open(target, "w") as out:
        inside = contents(archive)
        layers = []
        for member, digest in zip(inside.layers, inside.digests, strict=True):
            entry = _resolve(archive, member)
            layers.append({"mediaType": LAYER_TYPE, "digest": digest, "size": entry.size})
            if digest not in present:
                blob = tarfile.TarInfo(_blob(digest))
                blob.size = entry.size
                out.addfile(blob, archive.extractfile(entry))
        config = _add(out, inside.config)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": config, "size": len(inside.config)},
            "layers": layers,
        }
        text = json.dumps(manifest).encode()
        entry_point = {
            "mediaType": MANIFEST_TYPE,
            "digest": _add(out, text),
            "size": len(text),
            "annotations": {"io.containerd.image.name": reference},
        }
        _put(out, "index.json", json.dumps({"schemaVersion": 2, "manifests": [entry_point]}).encode())
        _put(out, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')


def _resolve(archive: tarfile.TarFile, name: str) -> tarfile.TarInfo:
    entry = archive.getmember(name)
    return archive.getmember(Path(name, "..", entry.linkname).name) if entry.issym() else entry


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None, f"{name} is not a file"
    return file.read()


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _add(out: tarfile.TarFile, content: bytes) -> str:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    _put(out, _blob(digest), content)
    return digest


def _put(out: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    out.addfile(entry, io.BytesIO(content))
