"""`keelage check -f DIR`: everything that is wrong with manifests, with the line to mend, before a cluster sees them.

Judged by what the validating webhook and the operator judge by; a folder may hold
several namespaces, as a cluster does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from keelage_api.errors import ManifestError
from keelage_api.mounted import SECRET, MountedKey
from keelage_operator.core.compile import BudgetManifest, CompiledNamespace, RouteManifest, compile_namespace
from keelage_operator.core.price_book import price_book
from keelage_operator.core.problem import Problem
from keelage_operator.core.yaml_place import line_of
from keelage_operator.local_folder import Manifest, Survey, survey


class Finding(msgspec.Struct, frozen=True, rename="camel"):
    """One thing to mend."""

    file: str
    line: int
    level: str
    """`error`: it is not accepted, or its calls are sure to fail; `warning`: it may not do what was meant."""
    message: str
    """Field, value and remedy."""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    field: str = ""
    reason: str = ""
    """That of the condition."""

    def __str__(self) -> str:
        whose = f"{self.kind} {self.name}: " if self.kind else ""
        return f"{self.file}:{self.line}: {self.level}: {whose}{self.message}"


class Report(msgspec.Struct, frozen=True, rename="camel"):
    findings: tuple[Finding, ...]
    """In the order of files and lines."""
    routes: int
    budgets: int

    @property
    def good(self) -> bool:
        return not any(finding.level == "error" for finding in self.findings)

    @property
    def summary(self) -> str:
        """`1 route, 2 budgets: good`."""
        counts = f"{_counted(self.routes, 'route')}, {_counted(self.budgets, 'budget')}"
        errors = sum(finding.level == "error" for finding in self.findings)
        warnings = len(self.findings) - errors
        told = [_counted(count, what) for count, what in ((errors, "error"), (warnings, "warning")) if count]
        verdict = "good" if self.good else "not accepted"
        return f"{counts}: {verdict}" + (f" ({', '.join(told)})" if told else "")


def check(path: Path) -> Report:
    """Judge all manifests below `path`. Raises ManifestError if there is no such folder, or nothing in it."""
    found = survey(path)
    findings = [Finding(fault.file, fault.line, "error", fault.text) for fault in found.faults]
    if not found.manifests and not findings:
        raise ManifestError(f"{path}: no LLMRoute and no LLMBudget in it: name the folder with yours")
    for namespace in sorted({manifest.namespace for manifest in found.manifests}):
        findings += _of_namespace(found, namespace)
    return Report(
        tuple(sorted(findings, key=lambda each: (each.file, each.line))),
        sum(manifest.kind == "LLMRoute" for manifest in found.manifests),
        sum(manifest.kind == "LLMBudget" for manifest in found.manifests),
    )


def as_applied(manifests: Iterable[Manifest], namespace: str) -> CompiledNamespace:
    """Those of the namespace, as a cluster would obey them if they were all that it has."""
    raw = [(each.kind, each.raw) for each in manifests if each.namespace == namespace]
    routes = [RouteManifest.of(each) for kind, each in raw if kind == "LLMRoute"]
    budgets = [BudgetManifest.of(each) for kind, each in raw if kind == "LLMBudget"]
    return compile_namespace(namespace, routes, budgets, price_book())


def _of_namespace(found: Survey, namespace: str) -> Iterator[Finding]:
    manifests = {(each.kind, each.name): each for each in found.manifests if each.namespace == namespace}
    compiled = as_applied(found.manifests, namespace)
    for (kind, name), manifest in manifests.items():
        problems: Iterable[Problem] = (compiled.routes if kind == "LLMRoute" else compiled.budgets)[name].problems
        for problem in (*problems, *(_references(found, compiled, name) if kind == "LLMRoute" else ())):
            yield _finding(manifest, problem)


def _finding(manifest: Manifest, problem: Problem) -> Finding:
    return Finding(
        manifest.file,
        line_of(manifest.document, problem.field),
        "error" if problem.refuses else "warning",
        problem.message,
        manifest.kind,
        manifest.namespace,
        manifest.name,
        problem.field,
        problem.reason,
    )


def _references(found: Survey, compiled: CompiledNamespace, name: str) -> Iterator[Problem]:
    """Secrets and ConfigMaps that are in the folder without the key; those that are not may be in the cluster."""
    route = compiled.routes[name].route
    for backend in () if route is None else route.spec.backends:
        at = f"spec.backends[{backend.name}]"
        named = []
        if backend.credentials is not None:
            reference = backend.credentials.secret_key_ref
            named.append((f"{at}.credentials.secretKeyRef", MountedKey(reference.name, reference.key)))
        if backend.tls is not None:
            named += [
                (f"{at}.tls.caCertificateRefs[{index}]", MountedKey(each.name, each.key, each.kind.value))
                for index, each in enumerate(backend.tls.ca_certificate_refs)
            ]
        for field, wanted in named:
            held: Mapping[tuple[str, str], Mapping[str, bytes]]
            held = found.secrets if wanted.kind == SECRET else found.config_maps
            values = held.get((compiled.namespace, wanted.name))
            if values is not None and wanted.key not in values:
                keys = ", ".join(sorted(values)) or "none"
                yield Problem(
                    "KeyNotFound",
                    f"{field}.key: {wanted.kind} {wanted.name} of this folder has no key {wanted.key}, only {keys}:"
                    " correct the name or add the key",
                    about="ResolvedRefs",
                )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
