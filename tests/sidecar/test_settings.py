"""The environment of a sidecar."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from keelage_sidecar.core.log_line import LogLevel
from keelage_sidecar.settings import Address, Settings, SettingsError, read_settings

LEAST = {"KEELAGE_OPERATOR": "https://keelage.keelage.svc:8443/"}


def test_what_is_not_set_has_the_default_of_an_injected_pod() -> None:
    assert read_settings(LEAST) == Settings(operator="https://keelage.keelage.svc:8443")


def test_everything_can_be_set() -> None:
    environ = {
        "KEELAGE_OPERATOR": "https://o:1",
        "KEELAGE_CA": base64.b64encode(b"PEM").decode(),
        "KEELAGE_TOKEN_FILE": "/t",
        "KEELAGE_CREDENTIALS_DIR": "/c",
        "KEELAGE_STATE_DIR": "/s",
        "KEELAGE_LISTEN": "127.0.0.1:1",
        "KEELAGE_HEALTH": "[::]:2",
        "KEELAGE_USER": "ann",
        "KEELAGE_FEATURE": "triage",
        "KEELAGE_TASK_TYPE": "classify",
        "KEELAGE_POD": "web-1",
        "KEELAGE_DRAIN_S": "0.5",
        "KEELAGE_LOG_LEVEL": "warning",
    }
    assert read_settings(environ) == Settings(
        listen=Address("127.0.0.1", 1),
        health=Address("::", 2),
        credentials_dir=Path("/c"),
        state_dir=Path("/s"),
        operator="https://o:1",
        ca_pem="PEM",
        token_file=Path("/t"),
        user="ann",
        feature="triage",
        task_type="classify",
        pod="web-1",
        drain_s=0.5,
        log_level=LogLevel.WARNING,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KEELAGE_OPERATOR", ""),
        ("KEELAGE_OPERATOR", "keelage.svc"),
        ("KEELAGE_CA", "not base64!"),
        ("KEELAGE_LISTEN", "4000"),
        ("KEELAGE_LISTEN", "a:99999"),
        ("KEELAGE_DRAIN_S", "-1"),
        ("KEELAGE_DRAIN_S", "soon"),
        ("KEELAGE_LOG_LEVEL", "INFO"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        read_settings({**LEAST, name: value})
