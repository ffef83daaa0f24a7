#!/usr/bin/env bash
# The front door held to its own description: schemathesis makes sound and unsound requests from /openapi.json and
# checks every answer. No 5xx, no status, type or body that is not described, nothing unsound that is taken.
#
#   tests/contract/run.sh [BINARY]        the binary to test; default target/debug/bojagi
#
#   CONTRACT_EXAMPLES=25                  requests for each operation and mode; more finds more
#   CONTRACT_SEED=1                       another seed makes other requests
#
# Needs python3 with venv (Debian: python3-venv) and, the first time, the Python package index. No root.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec </dev/null

binary="$(realpath "${1:-${CARGO_TARGET_DIR:-target}/debug/bojagi}")"
tools="$(realpath -m "${CARGO_TARGET_DIR:-target}/contract")"
examples="${CONTRACT_EXAMPLES:-25}"
seed="${CONTRACT_SEED:-1}"
here="$PWD/tests/contract"
node=""
folder=""

stop() {
    local code="$?"
    if [ -n "$node" ]; then
        kill "$node" 2>/dev/null || true
        wait "$node" 2>/dev/null || true
    fi
    if [ "$code" -ne 0 ] && [ -n "$folder" ]; then
        echo "--- what the node warned of" >&2
        grep -E ' (WARN|ERROR) |panicked' "$folder/node.log" | tail -n 20 >&2 || true
    fi
    if [ -n "$folder" ]; then
        rm -rf "$folder"
    fi
    exit "$code"
}
trap stop EXIT

install_tools() {
    local wanted="$tools/requirements.txt"
    if [ -x "$tools/venv/bin/st" ] && cmp -s "$here/requirements.txt" "$wanted"; then
        return
    fi
    mkdir -p "$tools"
    python3 -m venv --clear "$tools/venv"
    "$tools/venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$wanted"
}

# Two free ports beside each other for the sandbox, one for the node.
free_ports() {
    python3 - <<'PYTHON'
import socket
def free(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
with socket.socket() as api, socket.socket() as http:
    api.bind(("127.0.0.1", 0))
    http.bind(("127.0.0.1", 0))
    print(api.getsockname()[1], http.getsockname()[1])
PYTHON
}

start_node() {
    local ports
    export HYPOTHESIS_STORAGE_DIRECTORY
    read -ra ports < <(free_ports)
    folder="$(mktemp -d)"
    HYPOTHESIS_STORAGE_DIRECTORY="$folder/hypothesis"
    "$binary" dev --data "$folder/data" --port "${ports[0]}" --sandbox-port "${ports[1]}" --cache-mib 32 \
        >"$folder/node.out" 2>"$folder/node.log" &
    node="$!"
    url="http://127.0.0.1:${ports[0]}"
    for _ in $(seq 300); do
        if curl --silent --fail "$url/readyz" >/dev/null; then
            return
        fi
        kill -0 "$node"
        sleep 0.1
    done
    echo "the node does not come up" >&2
    return 1
}

token() {
    curl --silent --fail -X POST "$url/v1/dev/token" -H 'Content-Type: application/json' \
        -d "{\"role\": \"$1\", \"sub\": \"contract\"}" | python3 -c 'import json, sys; print(json.load(sys.stdin)["token"])'
}

# One role's calls. Live streams do not end, and the dev clock would move the tokens out of their life.
check() {
    local role="$1"
    shift
    local caller=()
    if [ "$role" != nobody ]; then
        caller=(--header "Authorization: Bearer $(token "$role")")
    fi
    echo "--- $role: $*"
    # From the node's folder: it leaves files behind where it runs.
    cd "$folder"
    NO_COLOR=1 "$tools/venv/bin/st" --config-file "$here/schemathesis.toml" run "$url/openapi.json" "${caller[@]}" "$@" \
        --exclude-path-regex '/stream$|^/v1/dev/clock$' --checks all --phases examples,coverage,fuzzing \
        --max-examples "$examples" --seed "$seed" --request-timeout 30 --workers 1 --warnings off \
        --generation-database none --suppress-health-check all --no-color
}

install_tools
start_node
broken=0
check user --include-tag gifts || broken=1
check merchant --include-tag merchant || broken=1
check operator --include-tag operator || broken=1
check nobody --include-tag recipient --include-tag providers --include-tag health --include-tag docs --include-tag dev || broken=1
curl --silent --fail "$url/readyz" >/dev/null
if [ "$broken" -ne 0 ]; then
    echo "contract: broken" >&2
    exit 1
fi
echo "contract: held"
