"""`keelage check -f` names file, line, field and remedy of all that is wrong, and says so by its exit code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from keelage_operator.check import check
from keelage_operator.cli import main
from keelage_operator.core.price_book import price_book
from keelage_operator.core.review import GroupKind, Request
from keelage_operator.core.validate import validate

ROOT = Path(__file__).resolve().parents[2]
BAD = sorted((ROOT / "tests" / "cluster" / "manifests" / "bad").glob("*.yaml"))
GOOD = sorted((*(ROOT / "tests" / "cluster" / "manifests" / "good").glob("*.yaml"), *ROOT.glob("docs/examples/*.yaml")))

ROUTE = """\
apiVersion: keelage.dev/v1alpha1
kind: LLMRoute
metadata: {name: assistant, namespace: shop}
spec:
  podSelector: {matchLabels: {app: assistant}}
  backends:
  - name: anthropic
    provider: Anthropic
    credentials: {secretKeyRef: {name: keys, key: one}}
  tiers:
  - name: fast
    models: [{backend: anthropic, model: claude-haiku-4-5}]
  rules:
  - name: all
    select: [{tier: fast}]
"""
BUDGET = """\
apiVersion: keelage.dev/v1alpha1
kind: LLMBudget
metadata: {name: month, namespace: shop}
spec:
  limit: {amount: "5.00"}
"""
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: keys, namespace: shop}\nstringData: {one: sk-very-secret}\n"


def found(path: Path) -> list[tuple[str, int, str, str]]:
    """(file, line, level, field) of each finding."""
    return [(Path(each.file).name, each.line, each.level, each.field) for each in check(path).findings]


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_each_bad_manifest_is_refused_in_the_line_of_its_field(path: Path) -> None:
    report = check(path)
    lines = path.read_text().splitlines()
    assert not report.good
    expected = lines[0].removeprefix("# expect:").strip()
    assert any(expected in finding.message for finding in report.findings)
    for finding in report.findings:
        *_, last = (step for step in re.findall(r"[-\w]+", finding.field) or [""] if not step.isdigit())
        missing = "equired" in finding.message or f"{last} must be given" in finding.message
        assert last in lines[finding.line - 1] or missing


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_good_manifests_have_no_errors(path: Path) -> None:
    assert check(path).good


def test_all_problems_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        ROUTE.replace("provider: Anthropic", "provider: Antropic").replace("select:", "selects:")
    )
    (tmp_path / "b.yaml").write_text(BUDGET + "---\n" + BUDGET.replace('"5.00"', "5").replace("month", "day"))
    (tmp_path / "c.yaml").write_text("kind: [\n")
    assert found(tmp_path) == [
        ("a.yaml", 8, "error", "spec.backends[0].provider"),
        ("a.yaml", 14, "error", "spec.rules[0].select"),
        ("a.yaml", 15, "error", "spec.rules[0].selects"),
        ("b.yaml", 11, "error", "spec.limit.amount"),
        ("c.yaml", 2, "error", ""),
    ]


def test_references_across_files_are_followed(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        ROUTE.replace("claude-haiku-4-5", "claude-nobody-9").replace("key: one", "key: two")
    )
    (tmp_path / "b.yaml").write_text(BUDGET + "  applies:\n    routes: [assistant, other]\n")
    (tmp_path / "c.yaml").write_text(SECRET)
    assert found(tmp_path) == [
        ("a.yaml", 7, "warning", "spec.backends[anthropic]"),
        ("a.yaml", 9, "error", "spec.backends[anthropic].credentials.secretKeyRef.key"),
        ("b.yaml", 7, "warning", "spec.applies.routes"),
    ]
    assert "sk-very-secret" not in str(check(tmp_path))


def test_a_secret_that_only_the_cluster_has_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(ROUTE)
    assert found(tmp_path) == []


def test_routes_of_different_pods_do_not_overlap_and_those_of_the_same_do(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(ROUTE.replace("assistant", "one") + "---\n" + ROUTE.replace("assistant", "two"))
    assert found(tmp_path) == []
    same = ROUTE.replace("app: assistant", "app: both")
    (tmp_path / "a.yaml").write_text(same.replace("assistant", "one") + "---\n" + same.replace("assistant", "two"))
    [finding] = check(tmp_path).findings
    assert (finding.reason, finding.name, finding.level) == ("OverlappingRoute", "two", "warning")


def test_namespaces_are_judged_apart(tmp_path: Path) -> None:
    elsewhere = (ROUTE + "---\n" + BUDGET + "  applies: {routes: [assistant]}\n").replace("shop", "lab")
    (tmp_path / "a.yaml").write_text(ROUTE + "---\n" + elsewhere)
    assert found(tmp_path) == []
    assert check(tmp_path).summary == "2 routes, 1 budget: good"


def test_budgets_alone_can_be_checked(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(BUDGET)
    assert check(tmp_path).summary == "0 routes, 1 budget: good"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (ROUTE + "---\n" + ROUTE, 19, "LLMRoute assistant is also in"),
        (ROUTE.replace("v1alpha1", "v1"), 1, "'keelage.dev/v1' is not served"),
        (ROUTE.replace("LLMRoute", "LLMRoutes"), 2, "no such kind"),
        (ROUTE + "    name: again\n", 16, "name stands twice"),
        (SECRET.replace("stringData", "data"), 4, "not base64"),
        (ROUTE.replace("name: assistant,", "name: My_Route,"), 3, "metadata.name must be lower-case letters"),
    ],
)
def test_what_is_no_manifest_is_named_with_its_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    [finding] = check(tmp_path).findings
    assert (finding.line, finding.level) == (line, "error")
    assert said in finding.message


def test_each_item_that_names_what_is_not_there_is_told_in_its_line(tmp_path: Path) -> None:
    second = "  - name: more\n    select: [{tier: faast}]\n"
    (tmp_path / "a.yaml").write_text(ROUTE + second + second.replace("more", "most"))
    assert found(tmp_path) == [
        ("a.yaml", 17, "error", "spec.rules[more].select[0].tier"),
        ("a.yaml", 19, "error", "spec.rules[most].select[0].tier"),
    ]


def test_lists_are_looked_through_as_kubectl_does(tmp_path: Path) -> None:
    route = "".join(f"  {line}" for line in ROUTE.replace("tier: fast", "tier: slow").splitlines(keepends=True))
    (tmp_path / "a.yaml").write_text(f"apiVersion: v1\nkind: List\nitems:\n- {route[2:]}")
    assert found(tmp_path) == [("a.yaml", 18, "error", "spec.rules[all].select[0].tier")]


def test_the_command_prints_one_line_for_each_and_a_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(BUDGET)
    assert main(["check", "-f", str(file)]) == 0
    assert capsys.readouterr().out == "0 routes, 1 budget: good\n"
    file.write_text(BUDGET.replace('"5.00"', "5"))
    assert main(["check", "-f", str(file)]) == 1
    assert capsys.readouterr().out == (
        f"{file}:5: error: LLMBudget month: spec.limit.amount: Invalid value: 5: must be of type string: write it in"
        " quotes\n0 routes, 1 budget: not accepted (1 error)\n"
    )


def test_findings_can_be_had_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(BUDGET.replace('"5.00"', "5"))
    assert main(["check", "-f", str(tmp_path), "-o", "json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["routes"], told["budgets"]) == (0, 1)
    [finding] = told["findings"]
    assert finding["field"] == "spec.limit.amount"
    assert (finding["line"], finding["reason"]) == (5, "Invalid")


def test_the_readme_shows_what_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "examples"
    there.mkdir()
    for path, wrong, right in (("budget.yaml", "0.50", '"0.50"'), ("route.yaml", "retries:", "retry:")):
        (there / path).write_text((ROOT / "examples" / path).read_text().replace(right, wrong))
    monkeypatch.chdir(tmp_path)
    assert main(["check", "-f", "examples/"]) == 1
    assert f"$ keelage check -f examples/\n{capsys.readouterr().out}" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_the_webhook_says_the_same(path: Path) -> None:
    raw = yaml.safe_load(path.read_text())
    kind, name = raw["kind"], raw["metadata"]["name"]
    told = validate(
        Request("u", GroupKind("keelage.dev", "v1alpha1", kind), "shop", name, "CREATE", object=raw), price_book()
    )
    assert told.message == f"{kind} shop/{name}: " + "; ".join(each.message for each in check(path).findings)


def test_a_folder_that_is_not_there_cannot_be_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-f", str(tmp_path / "none")]) == 2
    assert "no such file or folder" in capsys.readouterr().err


def test_a_folder_with_nothing_to_judge_is_said_and_not_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text("")
    assert main(["check", "-f", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"keelage: {tmp_path}: no LLMRoute and no LLMBudget in it: name the folder with yours\n"


def test_a_file_that_is_not_there_is_named_without_the_number_of_its_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = tmp_path / "request.json"
    assert main(["explain", "request", "-r", str(tmp_path), "-f", str(request)]) == 2
    assert capsys.readouterr().err == f"keelage: {request}: No such file or directory\n"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (
            ROUTE + "  podSelector: {matchLabels: {a: b}\n",
            17,
            "a flow mapping that begins in line 16, expected ',' or '}'",
        ),
        (ROUTE + "  rules: []\n", 16, "LLMRoute assistant: rules stands twice in one object: remove one of them"),
        (ROUTE.replace("  rules:", "\trules:"), 13, "found character '\\t' that cannot start any token"),
        (
            "x-models: &all []\n" + ROUTE,
            1,
            'LLMRoute assistant: unknown field "x-models": correct its name or remove it',
        ),
        (ROUTE.replace("v1alpha1", "v2"), 1, "apiVersion 'keelage.dev/v2' is not served: write keelage.dev/v1alpha1"),
        (
            ROUTE.replace("LLMRoute", "LLMRout"),
            2,
            "keelage.dev has no such kind to write: it has LLMRoute and LLMBudget",
        ),
        (ROUTE + "---\nhello\n", 17, "not a manifest: write one object per document"),
        (ROUTE + "---\nspec: &s {a: *s}\n", 17, "cannot be read: what the anchor stands for holds an alias of it"),
    ],
)
def test_what_cannot_be_read_is_told_in_its_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    [finding] = check(tmp_path).findings
    assert (Path(finding.file).name, finding.level, finding.line) == ("a.yaml", "error", line)
    assert said in str(finding)


def test_what_is_merged_from_an_anchor_may_be_replaced(tmp_path: Path) -> None:
    second = "  - <<: *first\n    name: second\n  tiers:"
    (tmp_path / "a.yaml").write_text(
        ROUTE.replace("  - name: anth", "  - &first\n    name: anth").replace("  tiers:", second)
    )
    assert found(tmp_path) == []


def test_aliases_that_stand_for_billions_of_values_are_refused_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]
    (tmp_path / "a.yaml").write_text("\n".join([*lines, "kind: LLMRoute", "spec: *a11"]))
    [finding] = check(tmp_path).findings
    assert "its aliases stand for more than 1,000,000 values" in str(finding)


def test_bytes_that_are_no_utf_8_are_told_in_their_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(ROUTE.encode() + b"# \xff\n")
    [finding] = check(tmp_path).findings
    assert (finding.line, finding.message) == (16, "cannot be read: byte 0xff is no UTF-8: save it so")


def test_links_to_nothing_are_told_and_links_in_circles_followed_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(ROUTE)
    (tmp_path / "again").symlink_to(tmp_path)
    assert found(tmp_path) == []
    (tmp_path / "b.yaml").symlink_to(tmp_path / "none")
    [finding] = check(tmp_path).findings
    assert (Path(finding.file).name, finding.message) == ("b.yaml", "cannot be read: No such file or directory")
