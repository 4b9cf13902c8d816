"""What a sidecar loads: its image holds nothing else, and its memory is paid once per pod."""

from __future__ import annotations

import subprocess
import sys

FORBIDDEN = (
    "pydantic", "kopf", "kubernetes", "anthropic", "openai", "aiohttp", "httpx", "httpx2", "genai_prices",
    "cryptography", "keelage_operator", "keelage_api.v1alpha1", "keelage_api.window", "zoneinfo",
)  # fmt: skip
RSS_KIB_MAX = 45 * 1024

PROBE = """
import sys
import keelage_sidecar.__main__
import ssl
ssl.create_default_context()
loaded = [name for name in {forbidden!r} if name in sys.modules]
rss = next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]
print(rss, *loaded)
"""


def test_the_sidecar_loads_no_heavy_package_and_stays_below_45_mib() -> None:
    code = PROBE.format(forbidden=FORBIDDEN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rss_kib, *loaded = done.stdout.split()
    assert loaded == []
    assert int(rss_kib) < RSS_KIB_MAX
