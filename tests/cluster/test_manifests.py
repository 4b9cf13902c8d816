"""Good and bad manifests against the real API server: what the schema and its rules say."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cluster.kube import KubectlFailed, Space

pytestmark = pytest.mark.cluster

FOLDER = Path(__file__).parent / "manifests"
DOCUMENTED = Path(__file__).parents[2] / "docs" / "examples"
GOOD = sorted((*(FOLDER / "good").glob("*.yaml"), *DOCUMENTED.glob("*.yaml")))
BAD = sorted((FOLDER / "bad").glob("*.yaml"))


def test_good_manifests_are_taken(space: Space) -> None:
    assert GOOD
    for path in GOOD:
        space.apply(path.read_text().replace("namespace: shop", f"namespace: {space.name}"))


def test_bad_manifests_are_refused_with_the_remedy(space: Space) -> None:
    assert BAD
    wrong = []
    for path in BAD:
        text = path.read_text()
        expected = text.splitlines()[0].removeprefix("# expect:").strip()
        try:
            space.kube.kubectl("-n", space.name, "apply", "--dry-run=server", "-f", "-", stdin=text)
        except KubectlFailed as failure:
            if expected not in str(failure):
                wrong.append(f"{path.name}: expected {expected!r}, got {failure}")
        else:
            wrong.append(f"{path.name}: was taken")
    assert not wrong, "\n".join(wrong)
