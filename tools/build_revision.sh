#!/usr/bin/env bash
# build_revision.sh <revision> <build folder>: builds the backends of a git revision into a plugin,
# with the options of that build, and prints its path; or one sentence that says why not. What is
# built already is only named. Revisions share a source and a build folder, so that the next one
# compiles only what differs. ATTN_REPOSITORY names another repository than this one, ATTN_CUDA=OFF
# leaves the GPU backends out.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh

refuse() { printf '%s\n' "$*"; exit 1; }

revision=$1 cache=$2/CMakeCache.txt
repository=${ATTN_REPOSITORY:-$PWD}
commit=$(git -C "$repository" rev-parse --verify --quiet --end-of-options "$revision^{commit}" 2>/dev/null) ||
  refuse "there is no git revision '$revision' in $repository"
git -C "$repository" cat-file -e "$commit:harness/plugin/export.cpp" 2>/dev/null ||
  refuse "revision '$revision' predates harness/plugin/export.cpp: its backends cannot be built into a plugin"

# Everything of the other build's cache that decides what compilers do. LibTorch stays out: its
# backend is a library's, not the revision's.
mapfile -t options < <(
  grep -E '^(ATTN_(ARCHS|NVCC)|CMAKE_(BUILD_TYPE|PREFIX_PATH|(CXX|CUDA)_(COMPILER|FLAGS[A-Z_]*|HOST_COMPILER))|(fmt|nlohmann_json|CLI11|benchmark|GTest)_DIR):' \
    "$cache" | sed 's/^/-D/')
options+=("-DATTN_CUDA=${ATTN_CUDA:-$(sed -n 's/^ATTN_CUDA:STRING=//p' "$cache")}" -DATTN_TORCH=OFF -G "$(sed -n 's/^CMAKE_GENERATOR:INTERNAL=//p' "$cache")")
home=$repository/build/revisions/$(printf '%s\n' "${options[@]}" | cksum | cut -d' ' -f1)
plugin=$home/$commit.so
log=$home/build.log

build() {
  if [ ! -d "$home/source" ]; then
    git clone --quiet --shared --no-checkout "$repository" "$home/source" || return
  fi
  git -C "$home/source" checkout --quiet --force --detach "$commit" &&
    cmake -S "$home/source" -B "$home/build" "${options[@]}" "-DATTN_REVISION=${commit:0:7}" &&
    cmake --build "$home/build" --target attn_revision --parallel "${ATTN_JOBS:-$(nproc)}" &&
    cp "$home/build/libattn_revision.so" "$plugin.tmp" && mv "$plugin.tmp" "$plugin"
}

mkdir -p "$home"
exec 9>"$home/lock"
flock 9
if [ ! -f "$plugin" ]; then
  printf 'building the backends of %s ...\n' "${commit:0:7}" >&2
  build >"$log" 2>&1 || refuse "revision '$revision' does not build: see $log"
fi
printf '%s\n' "$plugin"
