"""What each image is made of, and the keys that say whether it has changed. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

RELEASE = "bookworm"  # of Debian; its Python is the oldest that the product supports
PYTHON = "3.11"
BASE_PACKAGES = ("python3", "python3-pip", "ca-certificates")
# Removed once all is installed (installation itself needs Perl): what nothing in an image reads.
BASE_SURPLUS = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "usr/share/perl",
    "usr/lib/x86_64-linux-gnu/perl",
    "var/cache/apt",
    "var/lib/apt/lists",
)
BASE_REVISION = "1"  # raise it to make the base anew, with Debian's newest fixes
KEY_LENGTH = 16  # hexadecimal digits: 64 bits, for a handful of builds


@dataclass(frozen=True, slots=True)
class Recipe:
    """One image. `sources` are files and folders of the repository, the Dockerfile's context."""

    name: str
    dockerfile: str
    lock: str
    code: tuple[str, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.dockerfile, self.lock, *self.code)


IMAGES = (
    Recipe(
        "keelage/sidecar", "sidecar/Dockerfile", "lock/sidecar.txt", ("crds/keelage_api", "sidecar/keelage_sidecar")
    ),
    Recipe(
        "keelage/operator",
        "operator/Dockerfile",
        "lock/operator.txt",
        ("crds/keelage_api", "operator/keelage_operator"),
    ),
    Recipe("keelage/demo", "dev/demo/Dockerfile", "lock/demo.txt", ("dev/keelage_dev", "dev/demo")),
)


def _digest(parts: Mapping[str, bytes]) -> str:
    total = hashlib.sha256()
    for name in sorted(parts):
        # Lengths too: two files must not pass for one that holds both.
        total.update(f"{len(name)} {len(parts[name])} {name}\0".encode())
        total.update(parts[name])
    return total.hexdigest()[:KEY_LENGTH]


def base_key() -> str:
    """Names the base image: another release, package or revision makes another."""
    packages = dict.fromkeys((*BASE_PACKAGES, *BASE_SURPLUS), b"")
    return f"{RELEASE}-{_digest({**packages, 'revision': BASE_REVISION.encode()})}"


def wheels_key(lock: bytes) -> str:
    """Names a folder of wheels: another lock file or another Python makes another."""
    return f"{_digest({'lock': lock})}-{PYTHON}"


def content_key(recipe: Recipe, files: Mapping[str, bytes]) -> str:
    """Names an image's content; `files` maps each path of its sources to its bytes. A valid image tag."""
    return _digest({**files, f"image:{recipe.name}": b"", f"base:{base_key()}": b""})
