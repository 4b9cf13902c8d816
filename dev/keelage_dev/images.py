"""Build the product's images without Docker, and hand them to the development cluster.

    python -m keelage_dev.images

buildah builds them from the same Dockerfiles that users build from; only the base
is another (Debian's Python, made once by mmdebstrap) and packages come from wheels
kept in the cache. After the first time no build needs a network.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keelage_dev import cluster
from keelage_dev.cluster import packages
from keelage_dev.cluster.layout import REPOSITORY, Layout, layout
from keelage_dev.cluster.products import Progress
from keelage_dev.images_archive import pack
from keelage_dev.images_recipe import (
    BASE_PACKAGES,
    BASE_SURPLUS,
    IMAGES,
    PYTHON,
    RELEASE,
    Recipe,
    base_key,
    content_key,
    wheels_key,
)

TRIES = 5  # of the package index; its hiccups last seconds


class ImageError(Exception):
    """An image could not be built; the text holds the last lines of the tool that failed."""


@dataclass(frozen=True, slots=True)
class Image:
    """One image's content as it was read at one moment: others may be editing the files."""

    recipe: Recipe
    files: Mapping[str, bytes]  # path in the repository -> bytes

    @property
    def reference(self) -> str:
        """`NAME:KEY`: names this very content."""
        return f"{self.recipe.name}:{content_key(self.recipe, self.files)}"

    def archive(self, where: Layout) -> Path:
        """Its docker-archive in the cache."""
        return where.cache / "images" / f"{self.reference.replace('/', '-').replace(':', '-')}.tar"


def read() -> tuple[Image, ...]:
    """The images as the checkout is now."""
    return tuple(
        Image(recipe, {file: (REPOSITORY / file).read_bytes() for file in _files(recipe)}) for recipe in IMAGES
    )


def build(progress: Progress, images: Sequence[Image], where: Layout) -> None:
    """Build those of which the cache has no archive. Raises ImageError."""
    with _alone(where):
        _build_missing(progress, images, where)


def load(progress: Progress = cluster.quiet) -> dict[str, str]:
    """Build what has changed and give the cluster what it lacks; `NAME:dev` then is the present content.

    Returns image name -> reference by content: a Deployment that names it restarts when the code changed.
    """
    where, images = layout(), read()
    with _alone(where):
        present = set(cluster.image_names())
        lacking = [image for image in images if f"docker.io/{image.reference}" not in present]
        _build_missing(progress, lacking, where)
        for image in lacking:
            progress(f"importing {image.reference} into the cluster")
            with tempfile.NamedTemporaryFile(suffix=".tar") as slim:
                pack(image.archive(where), f"docker.io/{image.reference}", cluster.blob_digests(), Path(slim.name))
                cluster.load_image(Path(slim.name))
        for image in images:
            cluster.tag_image(f"docker.io/{image.reference}", f"docker.io/{image.recipe.name}:dev")
    return {image.recipe.name: image.reference for image in images}


@contextlib.contextmanager
def _alone(where: Layout) -> Iterator[None]:
    """One builder at a time: each removes the archives that it replaces."""
    where.cache.mkdir(parents=True, exist_ok=True)
    with (where.cache / "images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build_missing(progress: Progress, images: Sequence[Image], where: Layout) -> None:
    missing = [image for image in images if not image.archive(where).exists()]
    if missing:
        packages.ensure(packages.IMAGE_PACKAGES, progress)
        base = _base(where, progress)
        for image in missing:
            _build(where, image, base, progress)


def _files(recipe: Recipe) -> list[str]:
    """Every file that the image is made of, as paths in the repository, in order."""
    found: list[str] = []
    for source in recipe.sources:
        path = REPOSITORY / source
        found += (
            [source]
            if path.is_file()
            else [
                str(file.relative_to(REPOSITORY))
                for file in sorted(path.rglob("*"))
                if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".pyc"
            ]
        )
    return found


def _build(where: Layout, image: Image, base: str, progress: Progress) -> None:
    recipe, tag, archive = image.recipe, f"docker.io/{image.reference}", image.archive(where)
    wheels = _wheels(where, recipe, progress)
    began = time.monotonic()
    progress(f"building the image {recipe.name}")
    # Only what belongs in it is in the context: an edit elsewhere cannot undo a cached layer.
    context = where.cache / "images" / "context" / recipe.name
    shutil.rmtree(context, ignore_errors=True)
    for file, content in image.files.items():
        (context / file).parent.mkdir(parents=True, exist_ok=True)
        (context / file).write_bytes(content)
    _buildah(
        where,
        "bud",
        "--layers",
        "--isolation=chroot",
        "--pull-never",
        f"--volume={wheels}:/wheels:ro",
        f"--build-arg=BASE={base}",
        "--build-arg=PIP_FLAGS=--no-index --find-links /wheels",
        f"--file={context / recipe.dockerfile}",
        f"--tag={tag}",
        str(context),
    )
    for old in archive.parent.glob(f"{recipe.name.replace('/', '-')}-*.tar"):
        old.unlink()  # one archive per image: each is some hundred megabytes
    draft = archive.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    _buildah(where, "push", tag, f"docker-archive:{draft}:{tag}")
    draft.rename(archive)
    progress(f"built {recipe.name} in {time.monotonic() - began:.1f} s")


def _base(where: Layout, progress: Progress) -> str:
    """The base image's name, made if it is not in buildah's store."""
    name = f"localhost/keelage-base:{base_key()}"
    if _buildah(where, "images", "-q", name, may_fail=True).strip():
        return name
    tar = where.cache / "images" / f"base-{base_key()}.tar"
    if not tar.exists():
        tar.parent.mkdir(parents=True, exist_ok=True)
        progress(f"making the base image (Debian {RELEASE} with Python {PYTHON}; about a minute, once)")
        draft = tar.with_suffix(".draft")
        command = ["mmdebstrap", "--quiet", "--variant=apt", "--format=tar", f"--include={','.join(BASE_PACKAGES)}"]
        command += ['--customize-hook=cd "$1" && rm -rf ' + " ".join(BASE_SURPLUS)]
        _retried([*command, RELEASE, str(draft)], progress)
        draft.rename(tar)
    container = _buildah(where, "from", "--pull-never", "scratch").strip()
    _buildah(where, "add", container, str(tar), "/")
    _buildah(where, "config", "--env=PATH=/usr/local/bin:/usr/bin:/bin", "--cmd=python3", container)
    _buildah(where, "commit", "--rm", container, name)
    return name


def _wheels(where: Layout, recipe: Recipe, progress: Progress) -> Path:
    """A folder with a wheel of each locked package, for the base's Python; filled once per lock file."""
    lock = REPOSITORY / recipe.lock
    house = where.cache / "wheels" / f"img-{wheels_key(lock.read_bytes())}"
    if not (house / "COMPLETE").exists():
        progress(f"fetching the wheels of {recipe.lock} (once per lock file)")
        house.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += [f"--python-version={PYTHON}", "--only-binary=:all:", "--no-deps", "--require-hashes"]
        _retried([*command, f"--dest={house}", f"--requirement={lock}"], progress)
        (house / "COMPLETE").touch()
    return house


def _retried(command: list[str], progress: Progress) -> None:
    for attempt in range(1, TRIES + 1):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        if attempt < TRIES:
            progress(f"{command[0]} failed, trying again in {5 * attempt} s")
            time.sleep(5 * attempt)
    raise ImageError(f"{' '.join(command)} failed {TRIES} times:\n{_tail(done.stderr)}")


def _buildah(where: Layout, *words: str, may_fail: bool = False) -> str:
    store = where.cache / "images" / "store"
    command = ["buildah", f"--root={store}", f"--runroot={store}-run", *words]
    environment: Mapping[str, str] = {**os.environ, "BUILDAH_FORMAT": "oci"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0 and not may_fail:
        raise ImageError(f"buildah {words[0]} failed:\n{_tail(done.stdout + done.stderr)}")
    return done.stdout


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-20:])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m keelage_dev.images", description=__doc__)
    parser.add_argument("--no-load", action="store_true", help="build only; do not import into the cluster")
    arguments = parser.parse_args()
    began = time.monotonic()

    def progress(line: str) -> None:
        print(f"[{time.monotonic() - began:6.1f} s] {line}", flush=True)

    try:
        if arguments.no_load or "containerd" not in cluster.status().up:
            where, images = layout(), read()
            build(progress, images, where)
            for image in images:
                print(f"{image.reference}  {image.archive(where)}")
        else:
            for reference in load(progress).values():
                print(reference)
    except (ImageError, cluster.ClusterError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    progress("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
