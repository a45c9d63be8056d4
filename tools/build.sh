#!/usr/bin/env bash
# Configures and builds into build/ (ATTN_BUILD_DIR). ATTN_WERROR, ATTN_CUDA, ATTN_TORCH and
# ATTN_ARCHS go to CMake; ATTN_JOBS limits the compilers that run at a time.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh

dir=$(build_dir)
mkdir -p "$dir"
# A project that was moved or copied with its build folder starts a fresh one.
if [ -f "$dir/CMakeCache.txt" ] &&
  ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD" "$dir/CMakeCache.txt"; then
  rm -rf "$dir/CMakeCache.txt" "$dir/CMakeFiles"
fi
generator=()
if [ ! -f "$dir/CMakeCache.txt" ] && command -v ninja >/dev/null 2>&1; then
  generator=(-G Ninja)
fi

headline "Configuring $dir"
if ! cmake -S . -B "$dir" "${generator[@]}" \
  "-DATTN_WERROR=${ATTN_WERROR:-OFF}" "-DATTN_CUDA=${ATTN_CUDA:-AUTO}" \
  "-DATTN_TORCH=${ATTN_TORCH:-AUTO}" "-DATTN_ARCHS=${ATTN_ARCHS:-}" >"$dir/configure.log" 2>&1; then
  cat "$dir/configure.log" >&2
  exit 1
fi
grep -E '^-- (CUDA|LibTorch):' "$dir/configure.log" | sed 's/^--/  /'

headline "Building $dir"
cmake --build "$dir" --parallel "${ATTN_JOBS:-$(nproc)}"
