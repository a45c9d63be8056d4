#!/usr/bin/env bash
# Formats every C++ and CUDA source in place; --check only says which differ, and fails then.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh

tool=$(clang_tool clang-format) || fail "clang-format is not installed."
if [ "${1:-}" = --check ]; then
  sources | xargs -r "$tool" --dry-run -Werror
else
  sources | xargs -r "$tool" -i
fi
