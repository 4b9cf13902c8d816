from __future__ import annotations

import pytest

from keelage_operator.core.sidecar_template import PodFacts, container
from keelage_operator.settings import Settings, SettingsError

NEEDED = {
    "POD_NAME": "keelage-abc",
    "POD_IP": "10.0.0.1",
    "POD_NAMESPACE": "keelage-system",
    "KEELAGE_SIDECAR_IMAGE": "keelage/sidecar:1",
}


def test_what_is_not_set_has_a_default() -> None:
    settings = Settings.read(NEEDED)

    assert settings == Settings("keelage-abc", "10.0.0.1", "keelage-system", "keelage/sidecar:1")
    assert settings.identity == "keelage-abc_10.0.0.1:8443"
    assert settings.template(b"pem").operator_url == "https://keelage.keelage-system.svc:8443"


def test_an_ipv6_address_can_be_called() -> None:
    assert Settings.read({**NEEDED, "POD_IP": "fd00::1"}).identity == "keelage-abc_[fd00::1]:8443"


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_a_missing_variable_is_named(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.read({**NEEDED, name: ""})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KEELAGE_HTTPS_PORT", "0"),
        ("KEELAGE_HEALTH_PORT", "http"),
        ("KEELAGE_LOG_LEVEL", "loud"),
        ("KEELAGE_SIDECAR_PULL_POLICY", "Sometimes"),
        ("KEELAGE_SIDECAR_LIMITS", "memory"),
        ("KEELAGE_SIDECAR_LOG_LEVEL", "trace"),
    ],
)
def test_a_wrong_value_is_named_with_its_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}={value}"):
        Settings.read({**NEEDED, name: value})


def test_resources_are_a_list_of_pairs_or_none_at_all() -> None:
    settings = Settings.read(
        {**NEEDED, "KEELAGE_SIDECAR_REQUESTS": "cpu=5m, memory=48Mi", "KEELAGE_SIDECAR_LIMITS": "-"}
    )

    assert settings.sidecar_requests == (("cpu", "5m"), ("memory", "48Mi"))
    assert settings.sidecar_limits == ()


def test_the_log_level_of_sidecars_is_injected_into_them() -> None:
    template = Settings.read({**NEEDED, "KEELAGE_SIDECAR_LOG_LEVEL": "warning"}).template(b"")
    env = container(template, PodFacts((), "", "", "", guaranteed=False))["env"]
    assert isinstance(env, list)
    assert {"name": "KEELAGE_LOG_LEVEL", "value": "warning"} in env
