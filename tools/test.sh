#!/usr/bin/env bash
# make test: installs what is missing, builds, runs every test. Ends with ctest's summary line.
# ATTN_WERROR=ON makes warnings errors (as CI does).
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh

tools/bootstrap.sh
tools/build.sh

headline "Testing"
dir=$(build_dir)
status=0
export OMP_WAIT_POLICY=passive  # tests run side by side: threads that spin would starve the others
ctest --test-dir "$dir" --output-on-failure --no-tests=error -j "${ATTN_JOBS:-$(nproc)}" |
  tee "$dir/ctest.log" || status=$?
printf '\n'
grep -E '^[0-9]+% tests passed' "$dir/ctest.log" || fail "ctest gave no summary."
exit "$status"
