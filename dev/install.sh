#!/usr/bin/env bash
# Install a lock file and this checkout into .venv.
# Wheels are kept outside the repository, keyed by the lock file: once they are
# there, neither an index nor a name server that is away can stop an installation.
set -euo pipefail
cd "$(dirname "$0")/.."
lock=$1
cache="${KEELAGE_CACHE:-$HOME/.cache/keelage}/wheels"
key="$(cat "$lock" dev/build-tools.txt | sha256sum | cut -c1-16)-$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
house="$cache/$key"
rm -rf .venv/READY
python3 -c 'import ensurepip' 2>/dev/null || { apt-get update -qq && apt-get install -y -qq python3-venv; }
[ -x .venv/bin/python ] || python3 -m venv .venv
if [ ! -f "$house/COMPLETE" ]; then
  echo "fetching the locked packages (once per lock file)"
  mkdir -p "$house"
  for try in 1 2 3 4 5; do
    if .venv/bin/pip -q download --disable-pip-version-check -d "$house" -r dev/build-tools.txt \
      && .venv/bin/pip -q download --disable-pip-version-check --require-hashes -d "$house" -r "$lock"; then
      touch "$house/COMPLETE"; break
    fi
    [ "$try" = 5 ] && { echo "the package index could not be reached; see the messages above" >&2; exit 1; }
    echo "the package index did not answer; trying again in $((try * 15)) s" >&2
    sleep $((try * 15))
  done
fi
echo "installing the locked packages into .venv"
offline=(--disable-pip-version-check --no-index --find-links "$house")
.venv/bin/pip -q install "${offline[@]}" -r dev/build-tools.txt
.venv/bin/pip -q install "${offline[@]}" --require-hashes -r "$lock"
.venv/bin/pip -q install "${offline[@]}" --no-build-isolation --no-deps -e .
