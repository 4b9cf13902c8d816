"""`python -m keelage_dev.cluster up|down|status|restart NAME|kill NAME|load TAR`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from keelage_dev import cluster


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m keelage_dev.cluster", description=cluster.__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("up", help="bring up what is not up; the first time builds the programs (about 8 minutes)")
    verbs.add_parser("down", help="stop and remove everything but the cache of programs")
    verbs.add_parser("status", help="what runs, and where KUBECONFIG is")
    for verb, text in (("restart", "stop a component and start it again"), ("kill", "SIGKILL a component")):
        verbs.add_parser(verb, help=text).add_argument("component")
    verbs.add_parser("load", help="import an image").add_argument("tar", type=Path)
    arguments = parser.parse_args()
    began = time.monotonic()

    def progress(line: str) -> None:
        print(f"[{time.monotonic() - began:6.1f} s] {line}", flush=True)

    try:
        match arguments.verb:
            case "up":
                cluster.up(progress)
                return _status()
            case "down":
                cluster.down()
                print("nothing of the cluster is left; its programs stay in the cache")
            case "restart":
                cluster.restart(arguments.component, progress)
            case "kill":
                cluster.kill(arguments.component)
            case "load":
                cluster.load_image(arguments.tar)
            case _:
                return _status()
    except cluster.ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _status() -> int:
    now = cluster.status()
    ready = not now.down and now.node_ready
    print(f"state       {'up' if ready else 'down' if not now.up else 'partly up'}")
    if now.up:
        print(f"running     {' '.join(now.up)}")
    if now.down:
        print(f"not running {' '.join(now.down)}")
    print(f"KUBECONFIG  {now.cluster.kubeconfig}")
    print(f"programs    {now.cluster.bin_dir}")
    print(f"logs        {now.cluster.dir / 'logs'}")
    return 0 if ready else 3


if __name__ == "__main__":
    sys.exit(main())
