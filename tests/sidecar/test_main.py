"""The process: environment in, orderly end out."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import msgspec
import orjson
from tests.sidecar.shell.proxied import HAIKU, KEY, config_of, parsed, request

from keelage_api.codec import decode, encode
from keelage_api.money import PICO_PER_USD
from keelage_api.sync import ConfigReply, ConfigRequest, Right, SyncReply, SyncRequest
from keelage_dev.provider import FakeProvider
from keelage_sidecar.shell.call import Call
from keelage_sidecar.shell.server import Server

JSON = [(b"content-type", b"application/json")]
BODY = orjson.dumps({"model": HAIKU, "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]})


async def launched(environ: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "keelage_sidecar",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], **environ},
    )


async def ask(port: int, method: str, path: str, body: bytes = b"") -> int:
    """The status; 0 while nobody listens."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return 0
    writer.write(request(method, path, body, close=True))
    reply = parsed(await reader.read())
    writer.close()
    return reply.status


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


async def test_a_process_serves_until_sigterm_and_gives_its_lease_back(tmp_path: Path) -> None:
    said: list[SyncRequest] = []
    async with FakeProvider({KEY: "app"}) as provider:
        config = config_of([provider.url])

        async def operator(call: Call) -> None:
            if call.target == "/v1/sync":
                heard = decode(SyncRequest, call.body)
                said.append(heard)
                rights = tuple(
                    Right(each.budget, "2026-11", each.seq, each.granted + each.want if each.window else 0, 3600.0)
                    for each in heard.statements
                )
                call.reply(200, JSON, encode(SyncReply(rights)))
            elif decode(ConfigRequest, call.body).version == config.version:
                await asyncio.get_running_loop().create_future()
            else:
                call.reply(200, JSON, encode(ConfigReply(msgspec.Raw(encode(config)))))

        server = Server(operator)
        port = await server.serve("127.0.0.1", 0)
        (tmp_path / "llm-keys").mkdir()
        (tmp_path / "llm-keys" / "key").write_text(KEY)
        (tmp_path / "token").write_text("token")
        proxy, health = free_port(), free_port()
        process = await launched(
            {
                "KEELAGE_OPERATOR": f"http://127.0.0.1:{port}",
                "KEELAGE_TOKEN_FILE": str(tmp_path / "token"),
                "KEELAGE_CREDENTIALS_DIR": str(tmp_path),
                "KEELAGE_STATE_DIR": str(tmp_path),
                "KEELAGE_LISTEN": f"127.0.0.1:{proxy}",
                "KEELAGE_HEALTH": f"127.0.0.1:{health}",
                "KEELAGE_USER": "pod-user",
            }
        )
        try:
            while await ask(health, "GET", "/startedz") != 200:
                assert process.returncode is None
            assert await ask(proxy, "POST", "/v1/messages", BODY) == 200
            process.send_signal(signal.SIGTERM)
            out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        await server.finish()
        assert (process.returncode, err) == (0, b"")
        line = orjson.loads(out)
        assert (line["outcome"], line["user"], line["backend"]) == ("ok", "pod-user", "r/anthropic0")
        assert "hello" not in out.decode()
        assert KEY not in out.decode()
        assert said[-1].leaving
        assert said[-1].statements[0].spent == int(provider.bill().usd * PICO_PER_USD)


async def test_a_wrong_environment_is_said_and_ends_the_process() -> None:
    process = await launched({})
    _, err = await process.communicate()
    assert process.returncode == 2
    assert b"KEELAGE_OPERATOR" in err
    assert err.count(b"\n") == 1


async def test_a_state_directory_that_is_not_there_is_said_and_ends_the_process(tmp_path: Path) -> None:
    process = await launched({"KEELAGE_OPERATOR": "https://o:1", "KEELAGE_STATE_DIR": str(tmp_path / "none")})
    _, err = await process.communicate()
    assert process.returncode == 1
    assert b"none" in err
