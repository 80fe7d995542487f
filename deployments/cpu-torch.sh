# Sourced by install.sh and install-peers.sh, which set VENV and define pip and pin.
torch="torch==$(pin torch)"

# On Linux for x86-64 the index's own torch drags in gigabytes of CUDA packages; elsewhere it is a CPU build.
install_cpu_torch() {
    case "$(uname -s)-$(uname -m)" in
        Linux-x86_64) ;;
        *) pip install -c constraints.txt "$torch"; return ;;
    esac
    pip install -c constraints.txt "$torch+cpu" 2>/dev/null && return # an index or folder of the user's has it
    pip install -c constraints.txt uv # knows where PyTorch keeps its CPU builds
    VIRTUAL_ENV="$VENV" "$VENV/bin/uv" pip install --quiet --torch-backend cpu -c constraints.txt "$torch" && return
    echo "No CPU build of torch can be had. 'make TORCH=default ...' takes the default one, with CUDA." >&2
    return 1
}
