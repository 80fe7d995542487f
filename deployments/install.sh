#!/bin/sh
# Makes the virtual environment: PYTHON, VENV and TORCH (cpu, or default: the index's own build) come from the Makefile.
# Nothing is installed whose hash is not in deployments/locks/ (`make lock`); no dependency is sought beyond them.
set -eu

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Nightshift needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..." >&2
    exit 1
}
[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
pip() { "$VENV/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
. deployments/install-locked.sh

echo "Installing into $VENV (once; a few minutes) ..."
if [ "$TORCH" != cpu ]; then
    case "$("$VENV/bin/python" -m pip show torch 2>/dev/null)" in
        *+cpu*) pip uninstall -y torch ;; # which pip would take for the one wanted
    esac
fi
install_torch
install_locked flows
install_locked dev
pip install --no-deps --no-build-isolation -e . # built by the setuptools of the lock
