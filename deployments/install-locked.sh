# Sourced by install.sh and install-peers.sh, which set VENV and TORCH and define pip.

install_locked() { pip install --no-deps --require-hashes -r "deployments/locks/$1.txt"; }

# On Linux for x86-64 the index's own torch drags in gigabytes of CUDA packages; elsewhere it is a CPU build.
install_torch() {
    case "$TORCH-$(uname -s)-$(uname -m)" in
        cpu-Linux-x86_64) ;;
        *) install_locked torch; return ;;
    esac
    install_locked torch-cpu 2>/dev/null && return # an index or folder of the user's has it
    install_locked uv # knows where PyTorch keeps its CPU builds
    VIRTUAL_ENV="$VENV" "$VENV/bin/uv" pip install --quiet --torch-backend cpu \
        --no-deps --require-hashes -r deployments/locks/torch-cpu.txt && return
    echo "No CPU build of torch with a hash of deployments/locks/torch-cpu.txt can be had." >&2
    echo "'make TORCH=default ...' takes the default one, with CUDA." >&2
    return 1
}
