#!/bin/sh
# Writes the locked packages of the Docker image, with hashes: torch.txt, cpu.txt and gpu.txt (the other
# packages of the CPU and the GPU image). Requires uv.
set -eu
cd "$(dirname "$0")"
compile() {
    output=$1
    shift
    # setuptools builds Sightline's own wheel.
    echo "setuptools>=77" | uv pip compile --quiet --generate-hashes --no-annotate --no-header \
        --no-emit-index-url --no-emit-find-links \
        --python-version 3.12 --python-platform x86_64-unknown-linux-gnu --output-file "$output" "$@" -
}
names() {
    sed -n "s/^\(\(torch\|triton\|nvidia\|cuda\)[a-z0-9-]*\)==.*/--no-emit-package=\1/p" "$1"
}
project="../pyproject.toml --extra raw --extra exchange --extra watch"
compile gpu.txt $project --extra gpu
grep "==" gpu.txt | sed "s/ .*//" > constraints.tmp
echo "torch" > torch.in
compile torch.txt torch.in --constraint constraints.tmp
compile gpu.txt $project --extra gpu --constraint constraints.tmp --no-emit-package=torch --no-emit-package=triton
compile cpu.txt $project --extra cpu --constraint constraints.tmp $(names torch.txt)
rm constraints.tmp torch.in
