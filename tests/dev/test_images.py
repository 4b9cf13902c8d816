"""Keys that say whether an image has changed, and archives that hold only what is new."""

from __future__ import annotations

import ast
import hashlib
import json
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

from keelage_dev.cluster.layout import REPOSITORY
from keelage_dev.cluster.pause import archive
from keelage_dev.images import read
from keelage_dev.images_archive import pack
from keelage_dev.images_recipe import IMAGES, content_key, wheels_key

RECIPE = IMAGES[0]
FILES = {"a.py": b"1", "b.py": b"2"}


def test_the_key_changes_with_each_byte_name_and_image() -> None:
    key = content_key(RECIPE, FILES)
    assert content_key(RECIPE, dict(reversed(FILES.items()))) == key
    assert content_key(RECIPE, {**FILES, "a.py": b"3"}) != key
    assert content_key(RECIPE, {"a.py": b"1", "c.py": b"2"}) != key
    assert content_key(replace(RECIPE, name="keelage/other"), FILES) != key


def test_two_files_do_not_pass_for_one_that_holds_both() -> None:
    assert content_key(RECIPE, {"a": b"1", "b": b"2"}) != content_key(RECIPE, {"a": b"11 b\x002"})


def test_wheels_are_kept_by_lock_file() -> None:
    assert wheels_key(b"x==1\n") != wheels_key(b"x==2\n")


def test_every_image_has_its_dockerfile_its_lock_and_code_and_no_bytecode() -> None:
    for image in read():
        assert image.recipe.dockerfile in image.files
        assert image.recipe.lock in image.files
        for folder in image.recipe.code:
            assert any(file.startswith(f"{folder}/") for file in image.files)
        assert not [file for file in image.files if file.endswith(".pyc")]


def test_dockerfiles_copy_only_what_the_recipe_puts_into_their_context() -> None:
    for recipe in IMAGES:
        lines = (REPOSITORY / recipe.dockerfile).read_text("utf-8").splitlines()
        copied = {line.split()[1] for line in lines if line.startswith("COPY ") and "--from" not in line}
        assert copied == {recipe.lock, *recipe.code}


def test_the_sidecars_lock_holds_nothing_of_the_operators_side() -> None:
    lock = (REPOSITORY / "lock" / "sidecar.txt").read_text("utf-8")
    names = {line.split("==")[0] for line in lock.splitlines() if "==" in line}
    assert names.isdisjoint({"kopf", "kubernetes", "anthropic", "pydantic", "aiohttp"})


def names_in(tar: Path) -> set[str]:
    with tarfile.open(tar) as opened:
        return set(opened.getnames())


def test_a_layer_that_the_cluster_has_is_left_out_of_the_archive(tmp_path: Path) -> None:
    source, whole, slim = tmp_path / "source.tar", tmp_path / "whole.tar", tmp_path / "slim.tar"
    source.write_bytes(archive(b"program", "localhost/pause:1"))
    pack(source, "docker.io/keelage/x:1", (), whole)
    with tarfile.open(whole) as tar:
        index_file = tar.extractfile("index.json")
        assert index_file is not None
        (entry,) = json.loads(index_file.read())["manifests"]
        assert entry["annotations"] == {"io.containerd.image.name": "docker.io/keelage/x:1"}
        manifest_file = tar.extractfile(f"blobs/{entry['digest'].replace(':', '/')}")
        assert manifest_file is not None
        (layer,) = json.loads(manifest_file.read())["layers"]
        blob = tar.extractfile(f"blobs/{layer['digest'].replace(':', '/')}")
        assert blob is not None
        assert f"sha256:{hashlib.sha256(blob.read()).hexdigest()}" == layer["digest"]
    pack(source, "docker.io/keelage/x:1", {layer["digest"]}, slim)
    assert names_in(whole) - names_in(slim) == {f"blobs/{layer['digest'].replace(':', '/')}"}


def test_the_demos_lock_has_every_package_that_its_programs_import() -> None:
    lock = (REPOSITORY / "lock" / "demo.txt").read_text("utf-8")
    locked = {line.split("==")[0].replace("-", "_") for line in lock.splitlines() if "==" in line}
    imported: set[str] = set()
    for folder in ("dev/keelage_dev/provider", "dev/demo"):
        for file in (REPOSITORY / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module is not None:
                    imported.add(node.module.split(".")[0])
    assert imported - set(sys.stdlib_module_names) - {"keelage_dev"} <= locked
