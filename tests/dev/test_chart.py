"""The chart holds the CRDs, renders the same twice, and asks for no more than the operator uses."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from keelage_dev.chart import ROOT, stale, template, wanted

CHART = ROOT / "charts" / "keelage"
CACHE = Path(os.environ.get("KEELAGE_CACHE") or Path.home() / ".cache" / "keelage")

Json = dict[str, object]


def test_chart_holds_what_the_crds_say() -> None:
    assert stale() == []
    assert len(wanted()) == 3


def test_braces_in_a_description_are_not_a_template() -> None:
    text = template("metadata:\n  name: x\nspec:\n  description: write {{x}}\n")
    assert "{{ `  description: write {{x}}` }}" in text


def test_manifest_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="metadata"):
        template("spec: {}\n")


def test_every_value_is_in_the_schema_and_in_the_readme() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(values) == set(schema["properties"]) - {"global"}
    readme = (CHART / "README.md").read_text()
    assert [name for name in values if f"`{name}" not in readme] == []


HELMS = [str(found) for found in sorted(CACHE.glob("bin/helm-*/helm"))]
"""Each version that `python -m keelage_dev.cluster up` built; on a machine without one there is nothing to render."""


@pytest.fixture(params=HELMS, ids=[Path(found).parent.name for found in HELMS])
def helm(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def rendered(helm: str, *words: str) -> str:
    command = [helm, "template", "keelage", str(CHART), "--namespace", "ops", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(helm: str, *words: str) -> dict[tuple[str, str], Json]:
    """By kind and name."""
    return {(o["kind"], o["metadata"]["name"]): o for o in yaml.safe_load_all(rendered(helm, *words)) if o}


def test_chart_renders_the_same_twice(helm: str) -> None:
    assert rendered(helm) == rendered(helm)


def test_no_certificate_is_rendered(helm: str) -> None:
    assert re.search("caBundle|BEGIN|tls[.]key", rendered(helm).replace("ca.crt", "")) is None


def test_unknown_value_is_refused(helm: str) -> None:
    done = subprocess.run(
        [helm, "template", str(CHART), "--set", "surprise=1"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "surprise" in done.stderr


@pytest.mark.parametrize("words", [(), ("--set", "image.operator.digest=sha256:" + "a" * 64)])
def test_every_container_is_restricted(helm: str, words: tuple[str, ...]) -> None:
    found = objects(helm, *words)
    for kind, name in (("Deployment", "keelage"), ("Pod", "keelage-test")):
        spec = yaml.safe_load(json.dumps(found[kind, name]["spec"]))
        spec = spec["template"]["spec"] if kind == "Deployment" else spec
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["runAsNonRoot"] is True


def test_no_rule_is_wide(helm: str) -> None:
    for (kind, name), found in objects(helm).items():
        if kind in ("Role", "ClusterRole"):
            rules = found["rules"]
            assert isinstance(rules, list)
            for rule in rules:
                assert "*" not in json.dumps(rule), (kind, name, rule)
                if "secrets" in rule["resources"]:
                    assert kind == "Role"
                    assert rule["verbs"] == ["create"] or rule["resourceNames"] == ["keelage-authority"]


def test_no_pod_matches_two_webhooks_and_the_operator_none(helm: str) -> None:
    webhooks = objects(helm)["MutatingWebhookConfiguration", "keelage"]["webhooks"]
    assert isinstance(webhooks, list)
    for namespace in (None, "true", "false", "other"):
        for pod in (None, "true", "false", "other"):
            for name in ("shop", "ops", "kube-system"):
                hits = [
                    hook["name"]
                    for hook in webhooks
                    if matches(hook["namespaceSelector"], {"keelage.dev/inject": namespace, METADATA_NAME: name})
                    and matches(hook["objectSelector"], {"keelage.dev/inject": pod})
                ]
                wants = name == "shop" and (
                    (namespace == "true" and pod != "false") or (namespace in (None, "other") and pod == "true")
                )
                assert len(hits) == (1 if wants else 0), (namespace, pod, name, hits)


METADATA_NAME = "kubernetes.io/metadata.name"


def matches(selector: dict[str, list[dict[str, object]]], labels: dict[str, str | None]) -> bool:
    """A label selector of In and NotIn; a missing label is NotIn anything."""
    for expression in selector["matchExpressions"]:
        values = expression["values"]
        assert isinstance(values, list)
        inside = labels.get(str(expression["key"])) in values
        if inside != (expression["operator"] == "In"):
            return False
    return True
