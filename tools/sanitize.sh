#!/usr/bin/env bash
# Runs compute-sanitizer over our kernels on a small part of the correctness matrix (needs a GPU and
# a finished build). Fails on the first tool that finds something.
#   tools/sanitize.sh [tool...]     default: memcheck racecheck synccheck initcheck
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh

command -v compute-sanitizer >/dev/null 2>&1 || fail "compute-sanitizer is not installed."
tools=("$@")
[ ${#tools[@]} -gt 0 ] || tools=(memcheck racecheck synccheck initcheck)
rows=$(mktemp -d)
trap 'rm -rf "$rows"' EXIT
for tool in "${tools[@]}"; do
  headline "$tool"
  compute-sanitizer --tool "$tool" --error-exitcode 3 --print-limit 5 \
    "$(build_dir)/attnbench" verify colreduce --suite edge --where 'B<=2 && M<=67 && N<=131' \
    --backend 'fused_simt,mma_sm80,split_k,cublas_naive,wgmma_sm90,one_pass_sm90,split_k_sm90' \
    --in-process --out "$rows/$tool" 2>/dev/null
done
