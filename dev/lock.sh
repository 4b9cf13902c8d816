#!/usr/bin/env bash
# Resolve pyproject.toml into lock/*.txt: versions and hashes, and no index's address.
set -euo pipefail
cd "$(dirname "$0")/.."
venv="${KEELAGE_CACHE:-$HOME/.cache/keelage}/uv"
[ -x "$venv/bin/uv" ] || { python3 -m venv "$venv" && "$venv/bin/pip" -q install uv; }
compile() { "$venv/bin/uv" pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate "$@"; }
compile pyproject.toml --group dev -o lock/dev.txt
compile pyproject.toml -c lock/dev.txt -o lock/operator.txt
compile --group sidecar -c lock/dev.txt -o lock/sidecar.txt
compile dev/demo/requirements.in -c lock/dev.txt -o lock/demo.txt
