#!/bin/sh
# Makes the environment of what `make bench` compares Nightshift with: PYTHON, VENV and TORCH as in install.sh.
# Of its own, because peers want versions of their own and must not decide Nightshift's; torch and transformers are
# the same as Nightshift's, so that a ratio says nothing of versions.
set -eu

[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
pip() { "$VENV/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
. deployments/install-locked.sh

echo "Installing what Nightshift is compared with into $VENV (once; a few minutes) ..."
install_torch
install_locked peers
# One that has no wheel for this machine is missing from the tables, and said to be, and the others are measured.
entry() { awk -v package="$1==" 'index($0, package) == 1 {found = 1} found {print; if (!/\\$/) exit}' deployments/locks/peer-engines.txt; }
one=$(mktemp)
trap 'rm -f "$one"' EXIT
sed -n 's/^\([a-z0-9-]*\)==.*/\1/p' deployments/locks/peer-engines.txt | while read -r package; do
    entry "$package" > "$one"
    pip install --no-deps --require-hashes -r "$one" || echo "$package cannot be had here; its rows will say so" >&2
done
