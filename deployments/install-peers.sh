#!/bin/sh
# Makes the environment of what `make bench` compares Nightshift with: PYTHON, VENV and TORCH as in install.sh.
# Of its own, because peers want versions of their own and must not decide Nightshift's; torch and transformers are
# the same as Nightshift's, so that a ratio says nothing of versions.
set -eu

[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
pip() { "$VENV/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
pin() { sed -n "s/^$1==//p" constraints.txt; }
. deployments/cpu-torch.sh

echo "Installing what Nightshift is compared with into $VENV (once; a few minutes) ..."
if [ "$TORCH" = cpu ]; then install_cpu_torch; else pip install "$torch"; fi
pip install "transformers==$(pin transformers)" "accelerate==$(pin accelerate)" "datasets==$(pin datasets)"
# One that has no wheel for this machine is missing from the tables, and said to be, and the others are measured.
sed -n 's/^\([a-z0-9-]*==[^ ]*\).*/\1/p' deployments/peers.txt | while read -r package; do
    pip install -c constraints.txt "$package" || echo "$package cannot be had here; its rows will say so" >&2
done
