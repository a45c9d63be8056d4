#!/usr/bin/env bash
# make reproduce: installs what is missing, builds, runs the correctness matrix and a sweep, draws
# the figures and writes README's tables. Ends within ATTN_BUDGET_S seconds (570), except that the
# runs get at least 240 s after a long first build; run it again and it goes on where it stopped.
# With a GPU: suites edge and readme. Without: edge and small on the CPU backends, drawn into
# build/plots, and the GPU figures redrawn from the committed rows.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh

plots_s=40  # kept back for the figures and the tables
SECONDS=0
deadline=${ATTN_BUDGET_S:-570}
left() { printf '%d' $((deadline - SECONDS - plots_s)); }

tools/bootstrap.sh
tools/build.sh
dir=$(build_dir)
bench=$dir/attnbench
if [ "$(left)" -lt 240 ]; then deadline=$((SECONDS + plots_s + 240)); fi

if has_gpu && grep -q '^ATTN_WITH_CUDA_BUILT:INTERNAL=1' "$dir/CMakeCache.txt"; then
  gpu=1 suite=readme
  device=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1 |
    tr 'A-Z' 'a-z' | tr -c 'a-z0-9\n' '-')  # as the harness names the folder of its rows
else
  gpu=0 suite=small device=cpu
fi

# An incorrect cell (exit code 1) is shown in the figures and fails the whole at the end; a usage
# error (2) or anything else stops here.
status=0
measure() {  # measure <seconds> <attnbench arguments>...
  local seconds=$1 code=0
  shift
  "$bench" "$@" --time-budget "${seconds}s" >>"$dir/reproduce.log" || code=$?
  case $code in
    0) ;;
    1) status=1; note "some cells are INCORRECT or crashed: see the matrix" ;;
    *) fail "attnbench $* ended with exit code $code." ;;
  esac
}

stamp=$dir/reproduce.stamp
: >"$stamp"
: >"$dir/reproduce.log"
headline "Correctness matrix (suite edge, $device)"
measure $(($(left) / 2)) verify colreduce --suite edge
headline "Sweep (suite $suite, $device)"
measure "$(left)" bench colreduce --suite "$suite"

if has_python_packages matplotlib numpy; then
  python=$(project_python)
  export PYTHONDONTWRITEBYTECODE=1
  headline "Figures"
  if [ "$gpu" -eq 1 ]; then
    "$python" plots/draw_all.py --device "$device" --out plots || status=1
    headline "README's tables"
    "$python" plots/readme_tables.py --device "$device" || status=1
  else
    "$python" plots/draw_all.py --device cpu --out "$dir/plots" || status=1
    note "the CPU's figures: $dir/plots"
    for rows in results/*/; do
      if [ "$rows" != results/cpu/ ] && compgen -G "$rows*/rows.jsonl" >/dev/null; then
        "$python" plots/draw_all.py --device "$(basename "$rows")" --out plots || status=1
      fi
    done
  fi
else
  note "Figures and tables are skipped: a package of plots/requirements.txt is missing."
fi

headline "Done in $SECONDS s"
find results -name rows.jsonl -newer "$stamp" 2>/dev/null | while read -r rows; do
  note "new rows: $rows"
done
note "run it again to go on with cells that the time budget left out, or for nothing if none are"
exit "$status"
