"""`keelage plan`: recorded calls under manifests that are not applied yet."""

from __future__ import annotations

import argparse
import heapq
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec

from keelage_operator.check import as_applied, check
from keelage_operator.local_folder import read_folder
from keelage_operator.local_mode import unselective
from keelage_operator.replay import Replay, read
from keelage_sidecar.core.log_line import CallRecord


def add_to(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f", dest="folder", required=True, type=Path, metavar="DIR", help="all manifests that are to hold; or one file"
    )
    parser.add_argument(
        "--log",
        dest="logs",
        required=True,
        nargs="+",
        metavar="FILE",
        help="standard output of sidecars, as kubectl logs prints it; - reads it",
    )
    parser.add_argument(
        "-l",
        dest="labels",
        action="append",
        default=[],
        type=_label,
        metavar="NAME=VALUE",
        help="label of the pods whose logs these are; default: pods that every route and budget selects",
    )
    parser.add_argument("-o", dest="output", choices=["json"], help="the same for programs")
    parser.set_defaults(act=_plan)


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, as in app=assistant")
    return name, value


def _plan(arguments: argparse.Namespace) -> int:
    judged = check(arguments.folder)
    if not judged.good:
        print("\n".join((*map(str, judged.findings), judged.summary)))
        return 1
    folder = read_folder(arguments.folder)
    manifests = folder.manifests
    if not arguments.labels:
        manifests = tuple(replace(each, raw=unselective(each.raw)) for each in manifests)
    compiled = as_applied(manifests, folder.namespace)
    budgets = [each.in_force for each in compiled.budgets.values() if each.in_force is not None]
    replay = Replay(compiled.config_for(dict(arguments.labels)), {terms.name: terms for terms in budgets})
    report = replay.run(heapq.merge(*(_records(name) for name in arguments.logs), key=lambda record: record.time))
    if not report.calls:
        print(
            f"keelage: no line of a call to a model in {', '.join(arguments.logs)}: give it what the sidecars wrote to"
            " standard output, at log level info or debug",
            file=sys.stderr,
        )
        return 1
    print(
        msgspec.json.format(msgspec.json.encode(report)).decode()
        if arguments.output == "json"
        else "\n".join((*map(str, judged.findings), report.text))
    )
    return 0


def _records(name: str) -> Iterator[CallRecord]:
    """Of one file; lines that are no calls are passed over."""
    with sys.stdin.buffer if name == "-" else Path(name).open("rb") as file:
        for line in file:
            if (record := read(line)) is not None:
                yield record
