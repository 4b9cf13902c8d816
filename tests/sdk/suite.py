"""An SDK's own tests, in an environment of their own: fetched once, then run as often as one likes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree


@dataclass(frozen=True, slots=True)
class Suite:
    sdk: str
    """As pip wants it, exact; its source distribution holds the tests."""
    tests: tuple[str, ...]
    """Paths in the distribution."""
    tools: tuple[str, ...]
    """What the tests need besides the SDK."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Why those tests, by a pattern of their names, pass straight only."""

    @property
    def name(self) -> str:
        return self.sdk.partition("==")[0]

    @property
    def root(self) -> Path:
        cache = Path(os.environ.get("KEELAGE_CACHE") or Path.home() / ".cache" / "keelage")
        return cache / f"suites-{self.sdk.replace('==', '-')}"

    def build(self, more: Callable[[Path], None] = lambda _: None) -> None:
        """Source and environment, and whatever `more` puts beside them. Raises `subprocess.CalledProcessError`."""
        done = self.root / "COMPLETE"
        if done.exists():
            return
        self.root.mkdir(parents=True, exist_ok=True)
        download(self.root, "--no-binary", self.name, self.sdk)
        with tarfile.open(next(self.root.glob(f"{self.name}-*.tar.gz"))) as archive:
            archive.extractall(self.root, filter="data")
        more(self.root)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(self.root / "environment")], check=True)
        subprocess.run([self._python, "-m", "pip", "install", "--quiet", self.sdk, *self.tools], check=True)
        done.touch()

    def passed(self, *options: str, **environment: str) -> frozenset[str]:
        """The names of the tests that pass with those options of pytest and in that environment."""
        source = next(path for path in self.root.glob(f"{self.name}-*") if path.is_dir())
        report = self.root / "report.xml"
        report.unlink(missing_ok=True)
        command = [self._python, "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider", *options]
        subprocess.run(
            [*command, f"--junitxml={report}", *self.tests],
            cwd=source,
            env={**os.environ, "PYTHONPATH": "", **environment},
            stdout=subprocess.DEVNULL,
            check=False,
        )
        cases = ElementTree.parse(report).iter("testcase")
        return frozenset(f"{case.get('classname')}::{case.get('name')}" for case in cases if not len(case))

    def compare(self, straight: frozenset[str], proxied: frozenset[str]) -> bool:
        """Tell what passes; whether all that passes straight passes through keelage too, but for what is refused."""
        lost = sorted(straight - proxied)
        unexpected = [name for name in lost if not any(re.search(pattern, name) for pattern in self.refused)]
        told = f"straight {len(straight)} pass, through keelage {len(proxied)}"
        print(f"{self.sdk}: {told}; {len(lost) - len(unexpected)} are refused on purpose")
        for name in unexpected:
            print(f"passes straight only: {name}")
        return bool(straight) and not unexpected

    @property
    def _python(self) -> str:
        return str(self.root / "environment" / "bin" / "python")


def download(folder: Path, *what: str) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps", "--dest"]
    subprocess.run([*pip, str(folder), *what], check=True)
