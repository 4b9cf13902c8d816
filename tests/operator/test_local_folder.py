"""What `keelage run -f` takes, and what it says about the rest."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from keelage_api.errors import ManifestError
from keelage_operator.local_folder import read_folder

ROUTE = "apiVersion: keelage.dev/v1alpha1\nkind: LLMRoute\nmetadata: {name: NAME, namespace: shop}\nspec: {}\n"
CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: corp-ca}\n"
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\n"


def test_routes_and_secrets_are_read_and_other_kinds_passed_over(tmp_path: Path) -> None:
    coded = base64.b64encode(b"two").decode()
    (tmp_path / "a.yaml").write_text(
        ROUTE.replace("NAME", "one") + "---\n" + SECRET + f"data: {{b: {coded}}}\nstringData: {{a: one}}\n"
    )
    (tmp_path / "b.yml").write_text("kind: Deployment\nmetadata: {name: app}\n")
    folder = read_folder(tmp_path)
    assert folder.namespace == "shop"
    assert [(each.kind, each.name) for each in folder.manifests] == [("LLMRoute", "one")]
    assert folder.secrets == {"keys": {"a": b"one", "b": b"two"}}


def test_config_maps_are_read_for_authorities(tmp_path: Path) -> None:
    coded = base64.b64encode(b"two").decode()
    text = CONFIG_MAP + f"data: {{a.crt: one}}\nbinaryData: {{b.crt: {coded}}}\n"
    (tmp_path / "a.yaml").write_text(ROUTE.replace("NAME", "one") + "---\n" + text)
    assert read_folder(tmp_path).config_maps == {"corp-ca": {"a.crt": b"one", "b.crt": b"two"}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no LLMRoute"),
        ("- a list\n", "write one object per document"),
        ("kind: [\n", "cannot be read"),
        ("kind: LLMRoute\n", "metadata.name"),
        (ROUTE.replace("v1alpha1", "v2"), "'keelage.dev/v2' is not served: write keelage.dev/v1alpha1"),
        (ROUTE.replace("NAME", "one") + "---\n" + ROUTE.replace("NAME", "one"), "remove one of them"),
        (
            ROUTE.replace("NAME", "one") + "---\n" + ROUTE.replace("NAME", "two").replace("shop", "other"),
            "keep one per folder",
        ),
        (SECRET + "data: {a: '!!'}\n", "not base64"),
        (SECRET + "stringData: {a: 5}\n", "must be a string"),
        (SECRET + "data: {a: '!!'}\n", "Secret keys: data.a is not base64: write it under stringData"),
        (CONFIG_MAP + "binaryData: {a: '!!'}\n", "ConfigMap corp-ca: binaryData.a is not base64: write it under data"),
    ],
)
def test_what_is_wrong_is_said_with_the_file(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "one.yaml").write_text(text)
    with pytest.raises(ManifestError, match=said):
        read_folder(tmp_path)


def test_a_bad_secret_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(SECRET + "data: {a: 'sk-very-secret!'}\n")
    with pytest.raises(ManifestError) as refusal:
        read_folder(tmp_path)
    assert "sk-very-secret" not in str(refusal.value)
