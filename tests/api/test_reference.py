"""The reference pages are what the schemas say."""

from __future__ import annotations

import pytest

from keelage_api.v1alpha1.reference import PUBLIC, main, path_of, text
from keelage_api.v1alpha1.schema import RESOURCES, Resource

PAGES = [resource for resource in RESOURCES if resource.kind in PUBLIC]


@pytest.mark.parametrize("resource", PAGES, ids=lambda resource: resource.kind)
def test_written_page_is_what_the_models_say(resource: Resource) -> None:
    assert path_of(resource).read_text() == text(resource), "run: python -m keelage_api.v1alpha1.reference write"


def test_page_tells_types_defaults_bounds_and_rules() -> None:
    lines = text(PAGES[0]).splitlines()
    assert (
        "| `spec.rules[].retry.attempts` | integer | `3` | In all, over all backends of the tier. 1 to 10. |" in lines
    )
    assert any(
        line.startswith("| `spec.backends` | list | required | Providers that tiers refer to. 1 to 32")
        for line in lines
    )


def test_check_finds_nothing_to_write(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0
    assert main(["other"]) == 2
    assert "usage" in capsys.readouterr().err
