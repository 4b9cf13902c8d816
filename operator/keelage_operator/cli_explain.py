"""`keelage explain`: where a budget's money is, and what would be done with a request."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from keelage_operator import explain_budget, local_mode
from keelage_operator.core.breakdown import LedgerPicture, told
from keelage_operator.explain_request import explain_request
from keelage_operator.local_folder import read_folder
from keelage_operator.shell.cluster import KubernetesCluster, kubeconfig_namespace


def add_to(parser: argparse.ArgumentParser) -> None:
    """The two questions, below `keelage explain`."""
    asked = parser.add_subparsers(required=True, metavar="WHAT")

    budget = asked.add_parser("budget", help="where each dollar of a budget is, by its ledger")
    budget.add_argument("name", metavar="NAME")
    budget.add_argument("--window", default="", metavar="ID", help="as in 2026-11; default: the current one")
    budget.add_argument(
        "--value",
        default="",
        metavar="NAME",
        help="as alice, alice/search or =-/search: its account, of a budget that holds for each value",
    )
    budget.add_argument("--state", metavar="DIR", help="as given to keelage run; the default without -n and --context")
    budget.add_argument("--context", default="", help="of the kubeconfig: explain a budget of that cluster")
    budget.add_argument("-n", "--namespace", metavar="NS", help="on the cluster; default: that of the context")
    budget.set_defaults(act=_budget)

    request = asked.add_parser("request", help="which rule, backends, bound and budgets a request would meet")
    request.add_argument(
        "-f", dest="file", required=True, metavar="FILE", help="the request's body as JSON; - reads it"
    )
    request.add_argument("-r", dest="folder", required=True, type=Path, metavar="DIR", help="manifests; Secrets too")
    request.add_argument(
        "--header", action="append", default=[], type=_header, metavar="NAME=VALUE", help="as x-keelage-feature=chat"
    )
    request.add_argument("--path", default="", help="as /v1/messages; default: guessed from the request")
    request.set_defaults(act=_request)


def _header(text: str) -> tuple[bytes, bytes]:
    name, equals, value = text.partition("=")
    if not name.strip() or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, as in x-keelage-feature=chat")
    return name.strip().lower().encode(), value.strip().encode()


def _budget(arguments: argparse.Namespace) -> int:
    try:
        picture = asyncio.run(_picture(arguments))
    except explain_budget.NothingToExplain as error:
        print(f"keelage: {error}", file=sys.stderr)
        return 1
    print(told(picture, datetime.now(UTC)))
    return 0


async def _picture(arguments: argparse.Namespace) -> LedgerPicture:
    asked = explain_budget.Question(arguments.name, arguments.window, arguments.value)
    if not arguments.context and arguments.namespace is None:
        return await explain_budget.of_state(local_mode.state_dir(arguments.state), asked)
    namespace = arguments.namespace or kubeconfig_namespace(arguments.context)
    cluster = await KubernetesCluster.connect(context=arguments.context)
    try:
        return await explain_budget.of_cluster(cluster, namespace, asked)
    finally:
        await cluster.close()


def _request(arguments: argparse.Namespace) -> int:
    body = sys.stdin.buffer.read() if arguments.file == "-" else Path(arguments.file).read_bytes()
    found = explain_request(read_folder(arguments.folder), tuple(arguments.header), body, time.time(), arguments.path)
    print(found.text)
    return 0 if found.served else 1
