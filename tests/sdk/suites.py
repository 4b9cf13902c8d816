"""The SDKs' own tests: `python -m tests.sdk.suites`.

What passes without keelage must pass through it, but for what keelage refuses on purpose (`Suite.refused`). All
that is needed is fetched once, beside the other environments.
"""

from __future__ import annotations

import sys

from tests.sdk import anthropic_suite, openai_suite


def main() -> int:
    """1 where something passes straight only."""
    outcomes = [suite.same() for suite in (anthropic_suite, openai_suite)]
    return 0 if all(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
