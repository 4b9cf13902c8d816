"""An ordinary application in a pod, which makes the calls that a test tells it: it knows the two SDKs, and no proxy."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from tests.cluster.kube import Space, program

PROGRAM = """
import json, signal, sys, time
from concurrent.futures import ThreadPoolExecutor

if sys.argv[1:] != ["serve"]:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    signal.sigwait([signal.SIGTERM])
    sys.exit()

import anthropic, openai

claude, gpt = anthropic.Anthropic(max_retries=0), openai.OpenAI(max_retries=0)

def messages(arguments, stream):
    if stream:
        with claude.messages.stream(**arguments) as events:
            message, headers = events.get_final_message(), events.response.headers
    else:
        raw = claude.messages.with_raw_response.create(**arguments)
        message, headers = raw.parse(), raw.headers
    text = "".join(block.text for block in message.content if block.type == "text")
    return {"text": text, "body": message.to_dict(mode="json")}, headers

def chat(arguments, stream):
    raw = gpt.chat.completions.with_raw_response.create(**arguments, stream=stream)
    if stream:
        chunks = list(raw.parse())
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        return {"text": text, "body": chunks[0].to_dict(mode="json")}, raw.headers
    completion = raw.parse()
    return {"text": completion.choices[0].message.content or "", "body": completion.to_dict(mode="json")}, raw.headers

def embeddings(arguments, stream):
    raw = gpt.embeddings.with_raw_response.create(**arguments)
    return {"text": "", "body": raw.parse().to_dict(mode="json")}, raw.headers

APIS = {"messages": messages, "chat": chat, "embeddings": embeddings}

def made(call):
    began = time.monotonic()
    try:
        answer, headers = APIS[call["api"]](call["arguments"], call["stream"])
        answer["error"] = ""
    except Exception as error:
        answer = {"text": str(error), "body": {}, "error": type(error).__name__}
        headers = error.response.headers if hasattr(error, "response") else {}
    return answer | {"headers": dict(headers), "seconds": time.monotonic() - began}

with ThreadPoolExecutor(64) as pool:
    for line in sys.stdin:
        print(json.dumps(list(pool.map(made, json.loads(line)))), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Call:
    """What the application asks of an SDK: `api` is messages, chat or embeddings."""

    api: str
    arguments: Mapping[str, object]
    stream: bool = False

    @classmethod
    def messages(cls, text: object, *, stream: bool = False, **arguments: object) -> Call:
        """A call of `client.messages`, streamed by its helper; `text`: the user's, or all messages."""
        said = text if isinstance(text, list) else [{"role": "user", "content": text}]
        return cls("messages", {"model": "auto", "max_tokens": 100, "messages": said, **arguments}, stream)

    @classmethod
    def chat(cls, text: str, *, stream: bool = False, **arguments: object) -> Call:
        """A call of `client.chat.completions`."""
        return cls("chat", {"model": "auto", "messages": [{"role": "user", "content": text}], **arguments}, stream)

    @classmethod
    def embeddings(cls, *texts: str, **arguments: object) -> Call:
        return cls("embeddings", {"model": "text-embedding-3-small", "input": list(texts), **arguments})


@dataclass(frozen=True, slots=True)
class Answer:
    """What the SDK gave; `body` is its object, of a chat's stream the first chunk.

    `error`: the class of the exception, whose message is `text` then; empty for none.
    """

    text: str
    body: Mapping[str, Any]
    error: str
    headers: Mapping[str, str]
    seconds: float

    @property
    def model(self) -> str:
        return str(self.body.get("model", ""))

    def told(self, name: str) -> str:
        """The header `x-keelage-NAME`; empty: there is none."""
        return self.headers.get(f"x-keelage-{name}", "")


@dataclass(slots=True)
class Desk:
    """One pod of the application, and a process in it that waits for orders."""

    space: Space
    pod: str
    _orders: IO[str]
    _answers: IO[str]

    def ask(self, call: Call) -> Answer:
        (answer,) = self.ask_at_once([call])
        return answer

    def ask_at_once(self, calls: Sequence[Call]) -> list[Answer]:
        """All at the same time, each in a thread of its own; answers in the order of the calls."""
        order = [{"api": each.api, "arguments": each.arguments, "stream": each.stream} for each in calls]
        self._orders.write(json.dumps(order) + "\n")
        self._orders.flush()
        line = self._answers.readline()
        assert line, f"the application in {self.pod} has ended"
        return [Answer(**each) for each in json.loads(line)]

    def record(self, answer: Answer, suffix: str = "") -> Mapping[str, Any]:
        """The sidecar's log line of that call; with a suffix, of a call that was made for it, as `/classifier`."""
        wanted = answer.told("request-id") + suffix

        def written() -> Mapping[str, Any] | None:
            return next((each for each in self.records() if each["request_id"] == wanted), None)

        found: Mapping[str, Any] = self.space.kube.until(f"the log line of {wanted}", written, 20)
        return found

    def records(self) -> list[Mapping[str, Any]]:
        """The sidecar's log lines of calls, in the order of their ends; the newest may not be written yet."""
        return calls_of(self.log())

    def log(self) -> str:
        """All that the sidecar has said."""
        return self.space.kubectl("logs", self.pod, "-c", "keelage")


def calls_of(log: str) -> list[Mapping[str, Any]]:
    """The lines of a sidecar's log that tell of calls."""
    lines = (json.loads(line) for line in log.splitlines() if line.startswith("{"))
    return [each for each in lines if "request_id" in each]


def application(name: str, replicas: int = 1) -> str:
    """The manifests of an application with the label `app: NAME`."""
    return program(name, replicas, PROGRAM)


@contextmanager
def at_desk(space: Space, pod: str) -> Iterator[Desk]:
    """The application in that pod, ready for orders."""
    command = [str(space.kube.bin_dir / "kubectl"), f"--kubeconfig={space.kube.kubeconfig}", "-n", space.name]
    command += ["exec", "-i", pod, "-c", "app", "--", "python3", "-u", "/program/program.py", "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Desk(space, pod, process.stdin, process.stdout)
        finally:
            process.stdin.close()  # the program ends with its orders
            process.terminate()
