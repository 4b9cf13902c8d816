"""`make try`: keelage on this machine against the bundled fake provider, in seconds.

Starts the provider and `keelage run -f examples/`, lets the official SDKs talk until the
budget is used up, and prints what a user would look at.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anthropic
import openai

ROOT = Path(__file__).resolve().parents[2]
PROVIDER = "127.0.0.1:9999"
PROXY = "127.0.0.1:4000"
LIMIT = "0.02"
START_S = 30.0


class TryFailed(Exception):
    """A process did not come up; the text is what it said."""


@contextmanager
def serving(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that says `listening on …` on its standard error once it serves."""
    with log.open("wb") as file, log.with_suffix(".calls").open("wb") as calls:
        process = subprocess.Popen(command, stdout=calls, stderr=file, cwd=ROOT)
        try:
            ends = time.monotonic() + START_S
            while "listening on" not in log.read_text():
                if process.poll() is not None or time.monotonic() > ends:
                    raise TryFailed(f"{' '.join(command[:4])}: {log.read_text().strip() or 'did not start'}")
                time.sleep(0.05)
            yield process
        finally:
            process.terminate()
            process.wait(timeout=10)


def talk() -> None:
    """Both SDKs in turn, until one is refused."""
    claude = anthropic.Anthropic(base_url=f"http://{PROXY}", api_key="any", max_retries=0)
    gpt = openai.OpenAI(base_url=f"http://{PROXY}/v1", api_key="any", max_retries=0)
    calls = 0
    while True:
        question = f"Question {calls}: which berth is free tonight?"
        try:
            with claude.messages.stream(
                model="claude-haiku-4-5", max_tokens=300, messages=[{"role": "user", "content": question}]
            ) as stream:
                answer = stream.get_final_message()
            gpt.chat.completions.create(
                model="gpt-4o-mini", max_completion_tokens=300, messages=[{"role": "user", "content": question}]
            )
        except (anthropic.RateLimitError, openai.RateLimitError) as error:
            print(f"  after {calls} calls: {type(error).__module__.partition('.')[0]}.{type(error).__name__}")
            print(f"  {error}")
            return
        calls += 2
        if calls == 2:
            print(f"  {answer.usage.input_tokens} tokens in, {answer.usage.output_tokens} out, and so on …")


def main() -> int:
    started = time.monotonic()
    keelage = str(Path(sys.executable).with_name("keelage"))
    environment_path = os.pathsep.join([str(ROOT / "dev"), os.environ.get("PYTHONPATH", "")])
    os.environ["PYTHONPATH"] = environment_path
    try:
        with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
            here = Path(scratch)
            manifests = here / "manifests"
            manifests.mkdir()
            for path in (ROOT / "examples").glob("*.yaml"):
                (manifests / path.name).write_text(path.read_text().replace('"0.50"', f'"{LIMIT}"'))
            print(f"$ python -m keelage_dev.provider --listen {PROVIDER} &")
            stack.enter_context(
                serving([sys.executable, "-m", "keelage_dev.provider", "--listen", PROVIDER], here / "provider.log")
            )
            print(f"$ keelage run -f examples/ &        # here with a limit of {LIMIT} USD")
            state = ["--state", str(here / "state")]
            run = stack.enter_context(
                serving([keelage, "run", "-f", str(manifests), "--listen", PROXY, *state], here / "run.log")
            )
            print("the official SDKs, pointed at it:")
            talk()
            print("one line of the log of calls:")
            print("  " + (here / "run.calls").read_text().splitlines()[0])
            run.terminate()
            run.wait(timeout=10)
            print("$ keelage get llmbudget")
            print(
                subprocess.run([keelage, "get", "llmbudget", *state], capture_output=True, text=True, check=True).stdout
            )
            with urllib.request.urlopen(f"http://{PROVIDER}/fake/bill") as reply:
                print(f"The provider's own bill: {json.load(reply)['usd']} USD.")
    except TryFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    print(f"Done in {time.monotonic() - started:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
