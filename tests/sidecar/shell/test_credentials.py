"""Provider keys as files."""

from __future__ import annotations

import os
from pathlib import Path

from tests.sidecar.shell.proxied import config_of

from keelage_sidecar.shell.credentials import CHECK_S, Credentials


def test_a_key_is_read_again_when_its_file_has_changed(tmp_path: Path) -> None:
    now = [0.0]
    file = tmp_path / "s" / "k"
    credentials = Credentials(tmp_path, lambda: now[0])
    assert credentials.get("s/k") is None
    file.parent.mkdir()
    file.write_text("one\n")
    assert credentials.get("s/k") == "one"
    file.write_text("two")
    os.utime(file, ns=(1, 1))
    assert credentials.get("s/k") == "one"
    now[0] += CHECK_S
    assert credentials.get("s/k") == "two"
    file.unlink()
    now[0] += CHECK_S
    assert credentials.get("s/k") is None


def test_an_empty_key_is_missing(tmp_path: Path) -> None:
    (tmp_path / "llm-keys").mkdir()
    (tmp_path / "llm-keys" / "key").write_text("\n")
    assert Credentials(tmp_path, lambda: 0.0).missing(config_of(["http://a"])) == ("llm-keys/key",)
