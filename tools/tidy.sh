#!/usr/bin/env bash
# clang-tidy over the sources that need neither CUDA nor LibTorch, by the flags of the last build.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh

tool=$(clang_tool clang-tidy) || fail "clang-tidy is not installed."
dir=$(build_dir)
commands=$dir/compile_commands.json
[ -f "$commands" ] || fail "$commands is missing: make build first."

# Only files that the build compiled: tidy knows the flags of no others. Flags that only g++ knows
# must not become errors, and clang takes g++'s omp.h, after its own headers.
omp=$(dirname "$("${CXX:-g++}" -print-file-name=include/omp.h)")
sources | grep '\.cpp$' | grep -vE '^tests/|/libtorch[^/]*$|_cuda\.cpp$' | while read -r file; do
  if grep -qF "$PWD/$file\"" "$commands"; then printf '%s\0' "$file"; fi
done | xargs -0 -r -n 1 -P "${ATTN_JOBS:-$(nproc)}" "$tool" --quiet -p "$dir" \
  --extra-arg=-Wno-unknown-warning-option "--extra-arg=-idirafter$omp" 2>/dev/null
