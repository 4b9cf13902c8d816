"""`keelage`: run without a cluster, read what it says, check manifests, ask the providers."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec

from keelage_api.errors import KeelageError
from keelage_operator import check, cli_explain, cli_get, cli_plan, local_mode
from keelage_operator.local_folder import read_folder
from keelage_sidecar.core.log_line import LEVELS, LogLevel
from keelage_sidecar.settings import Address

LISTEN = "127.0.0.1:4000"


def main(words: Sequence[str] | None = None) -> int:
    """The exit code: 0 good, 1 the answer is no, 2 it could not be asked."""
    arguments = _parser().parse_args(words)
    try:
        code: int = arguments.act(arguments)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeelageError, OSError) as error:
        print(f"keelage: {_said(error)}", file=sys.stderr)
        return 2
    return code


def _said(error: KeelageError | OSError) -> str:
    """The message; of a file that cannot be read or written, its name and why."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="keelage", description="LLM budgets and routing, without a cluster too.")
    parser.add_argument("--version", action="version", version=f"keelage {version('keelage')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="serve the folder's routes under its budgets on this machine")
    run.add_argument("-f", dest="folder", required=True, type=Path, metavar="DIR", help="manifests; Secrets too")
    run.add_argument("--listen", default=LISTEN, type=_address, metavar="HOST:PORT", help=f"default {LISTEN}")
    run.add_argument("--health", type=_address, metavar="HOST:PORT", help="metrics and /debug/config; default: nowhere")
    run.add_argument("--log-level", default=LogLevel.INFO, type=_level, metavar="LEVEL", help=f"{LEVELS}; default info")
    run.add_argument("--state", metavar="DIR", help="ledger, journal and status; default: the user's state folder")
    run.set_defaults(act=_run)

    cli_get.add_to(commands.add_parser("get", help="print what kubectl get would print"))

    judge = commands.add_parser("check", help="say what is wrong with the folder's manifests, and in which line")
    judge.add_argument("-f", dest="folder", required=True, type=Path, metavar="DIR", help="or one file")
    judge.add_argument("-o", dest="output", choices=["json"], help="every finding with file, line, field and reason")
    judge.set_defaults(act=_check)

    ask = commands.add_parser("doctor", help="ask each provider whether the folder's keys and models are good")
    ask.add_argument("-f", dest="folder", required=True, type=Path, metavar="DIR", help="manifests; Secrets too")
    ask.set_defaults(act=_doctor)

    cli_plan.add_to(
        commands.add_parser(
            "plan", help="replay recorded calls under these manifests: where they would go, at what cost"
        )
    )

    cli_explain.add_to(
        commands.add_parser("explain", help="say where a budget's money is, or what a request would meet")
    )
    return parser


def _address(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not host:port, as in {LISTEN}")
    return Address(host.strip("[]") or "127.0.0.1", int(port))


def _level(text: str) -> LogLevel:
    level = LogLevel.of(text)
    if level is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not {LEVELS}")
    return level


def _run(arguments: argparse.Namespace) -> int:
    state = local_mode.state_dir(arguments.state)
    options = local_mode.Options(arguments.folder, state, arguments.listen, arguments.health, arguments.log_level)
    asyncio.run(local_mode.run(options))
    return 0


def _check(arguments: argparse.Namespace) -> int:
    report = check.check(arguments.folder)
    if arguments.output == "json":
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        print("\n".join((*map(str, report.findings), report.summary)))
    return 0 if report.good else 1


def _doctor(arguments: argparse.Namespace) -> int:
    # Imported here: the provider's SDK takes a second to load, and no other command needs it.
    from keelage_operator import doctor

    report = check.check(arguments.folder)
    if not report.good:
        print("\n".join((*map(str, report.findings), report.summary)))
        return 1
    folder = read_folder(arguments.folder)
    compiled = local_mode.compile_folder(folder, local_mode.Objects(Path(os.devnull)), "")
    config = compiled.config_for({})
    asked: dict[str, set[str]] = {name: set() for name in config.backends}
    for route in compiled.routes.values():
        for choice in (each for tier in (route.route.tiers if route.route else {}).values() for each in tier):
            asked[choice.backend].update([choice.model] if choice.model else [])
    good = True
    for name, backend in config.backends.items():
        prices = {**config.prices.get(backend.provider, {}), **backend.prices}
        for finding in doctor.examine(backend, frozenset(asked[name]), prices, folder, os.environ):
            good = good and finding.good
            print(finding, flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
