"""The image of the process that holds a pod's namespaces: one static program, packed by hand."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile

USER = "65535:65535"  # as the stock pause image has it: nobody


def archive(program: bytes, name: str) -> bytes:
    """A docker-archive tar with one layer, which holds `/pause`. The same bytes in, the same bytes out."""
    layer = _tar({"pause": program})
    diff = hashlib.sha256(layer).hexdigest()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": ["/pause"], "User": USER},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff}"]},
        }
    ).encode()
    config_file = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": config_file, "RepoTags": [name], "Layers": [f"{diff}.tar"]}]).encode()
    return _tar({config_file: config, f"{diff}.tar": layer, "manifest.json": manifest})


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o755
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
