#!/usr/bin/env bash
# Installs the wheel as users install a tool, each time into an empty place and without a network: pipx,
# `uv tool install` and `uvx`, from one folder of wheels that is filled first.
#
# .ci/install_tools.sh PYTHON     a Python with pip; pipx, uv and twine are installed into a copy of it
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
dist=$place/dist wheels=$place/wheels

"$python" .ci/dist.py "$dist"
"$python" -m venv "$place/tools"
"$place/tools/bin/pip" install --quiet pipx uv twine
export PATH="$place/tools/bin:$PATH"
twine check --strict "$dist"/*
# Every package as a wheel: nothing is built offline.
pip wheel --quiet --wheel-dir "$wheels" "$(echo "$dist"/*.whl)[cpu]" "$(echo "$dist"/*.whl)[mcp]"

# From here on nothing is asked of a network.
export PIP_NO_INDEX=1 PIP_FIND_LINKS=$wheels PIP_CONFIG_FILE=/dev/null
export UV_OFFLINE=1 UV_NO_INDEX=1 UV_FIND_LINKS=$wheels UV_NO_CONFIG=1
export UV_CACHE_DIR=$place/uv-cache UV_TOOL_DIR=$place/uv-tools UV_TOOL_BIN_DIR=$place/uv-bin
export PIPX_HOME=$place/pipx PIPX_BIN_DIR=$place/pipx-bin
export SIGHTLINE_LIBRARY=$place/library HF_HUB_OFFLINE=1
mkdir "$place/photos" && cp docs/images/*.jpg "$place/photos"

try() { # COMMAND... that runs sightline
    echo "== $*"
    rm -rf "$SIGHTLINE_LIBRARY"
    "$@" index "$place/photos" --model builtin --quiet
    "$@" search photos --jsonl | sed -n 1p
}
says() { # TEXT COMMAND...: the command fails and names the command that helps
    local text=$1 output
    shift
    if output=$("$@" 2>&1); then
        echo "it succeeded: $*"
        return 1
    fi
    echo "$output"
    grep --quiet --fixed-strings "$text" <<< "$output"
}

pipx install "sightline[cpu]"
try "$place/pipx-bin/sightline"
says "pipx inject sightline" "$place/pipx-bin/sightline" mcp
eval "$("$place/pipx-bin/sightline" mcp 2>&1 | sed 's/^[^:]*: [^:]*: //')"
"$place/pipx-bin/sightline" mcp < /dev/null

# Before `uv tool install`, whose environment uvx would use.
try uvx --from "sightline[cpu]" sightline
says "uvx --from" uvx --from "sightline[cpu]" sightline mcp
uvx --from "sightline[cpu,mcp]" sightline mcp < /dev/null

uv tool install "sightline[cpu]"
try "$place/uv-bin/sightline"
says "uv tool install" "$place/uv-bin/sightline" mcp
eval "$("$place/uv-bin/sightline" mcp 2>&1 | sed 's/^[^:]*: [^:]*: //')"
"$place/uv-bin/sightline" mcp < /dev/null
echo "== installed with pipx, uv tool and uvx"
