#!/usr/bin/env bash
# Installs what is missing for a build, the tests and the plots, and uses what is there: compilers
# and libraries by apt, the plots' packages and torch in the project's .venv; where torch cannot be
# had, libtorch-dev (with an optimised BLAS). With everything present it does nothing and needs no
# network.
#   --ci              also the format and tidy checks' tools, and a browser for the page's test
#   ATTN_OFFLINE=1    never touch the network: say in one sentence what is missing
#   ATTN_TORCH=OFF    do not look for LibTorch
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/lib.sh

cxx=${CXX:-g++}
offline=${ATTN_OFFLINE:-0}
packages=()

# ---- what is missing -----------------------------------------------------------------------------
at_least() {  # at_least <wanted version> <found version>
  [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}

prefixes=()
IFS=: read -r -a prefix_list <<<"${CMAKE_PREFIX_PATH:-}"
for prefix in "${prefix_list[@]}"; do
  if [ -n "$prefix" ]; then prefixes+=("-I$prefix/include"); fi
done

has_header() {
  printf '#include <%s>\n' "$1" | "$cxx" -std=c++20 -E -x c++ "${prefixes[@]}" - >/dev/null 2>&1
}

find_missing() {
  packages=()
  command -v "$cxx" >/dev/null 2>&1 || packages+=(g++)
  if ! command -v cmake >/dev/null 2>&1 ||
    ! at_least 3.25 "$(cmake --version | sed -n 's/^cmake version //p')"; then
    packages+=(cmake)
  fi
  if ! command -v ninja >/dev/null 2>&1 && ! command -v make >/dev/null 2>&1; then
    packages+=(ninja-build)
  fi
  command -v python3 >/dev/null 2>&1 || packages+=(python3 python3-venv)
  has_header gtest/gtest.h || packages+=(libgtest-dev)
  has_header benchmark/benchmark.h || packages+=(libbenchmark-dev)
  has_header CLI/CLI.hpp || packages+=(libcli11-dev)
  has_header nlohmann/json.hpp || packages+=(nlohmann-json3-dev)
  has_header fmt/format.h || packages+=(libfmt-dev)
  if [ "${1:-}" = --ci ]; then
    clang_tool clang-format >/dev/null || packages+=(clang-format-14)
    clang_tool clang-tidy >/dev/null || packages+=(clang-tidy-14)
  fi
}

# ---- apt -----------------------------------------------------------------------------------------
as_root=()
may_install() {
  command -v apt-get >/dev/null 2>&1 || return 1
  [ "$(id -u)" -eq 0 ] && return 0
  command -v sudo >/dev/null 2>&1 || return 1
  # Without a terminal a sudo that wants a password would wait for ever.
  if [ -t 0 ] || sudo -n true 2>/dev/null; then as_root=(sudo); return 0; fi
  return 1
}

lists_are_new=0
apt_install() {
  if [ "$lists_are_new" -eq 0 ]; then
    "${as_root[@]}" apt-get update -qq || true  # one unreachable source need not stop the others
    lists_are_new=1
  fi
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

find_missing "$@"
if [ "${#packages[@]}" -gt 0 ]; then
  list="${packages[*]}"
  [ "$offline" = 1 ] && fail "Missing, and ATTN_OFFLINE=1 forbids the network: $list."
  may_install || fail "Please have these packages installed, which needs root: $list."
  headline "Installing $list"
  apt_install "${packages[@]}" || fail "apt-get could not install: $list."
  find_missing "$@"
  [ "${#packages[@]}" -eq 0 ] || fail "Still missing or too old after apt-get: ${packages[*]}."
fi

# ---- A browser: optional, for the test of the report's page ---------------------------------------
has_browser() {
  command -v chromium || command -v chromium-browser || command -v google-chrome
} >/dev/null 2>&1

if [ "${1:-}" = --ci ] && ! has_browser; then
  if [ "$offline" != 1 ] && may_install; then
    headline "Installing chromium"
    apt_install chromium || true
  fi
  has_browser || note "No browser was found or could be installed: the page's test will be skipped."
fi

# ---- Python: the project's own environment, only where something is missing ----------------------
# --system-site-packages lets it see an importable torch or matplotlib; the environment that python3
# itself may live in is not the system, hence the .pth file.
make_venv() {
  [ -x .venv/bin/python ] && return 0
  if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    may_install && apt_install python3-venv || return 1
  fi
  python3 -m venv --system-site-packages .venv >/dev/null 2>&1 || { rm -rf .venv; return 1; }
  python3 - <<'PY'
import sys, sysconfig
from pathlib import Path
if sys.prefix != sys.base_prefix:
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    target = Path(".venv/lib") / name / "site-packages" / "outer_environment.pth"
    target.write_text(sysconfig.get_paths()["purelib"] + "\n")
PY
}

pip_install() {
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 15 "$@"
}

requirements=(matplotlib numpy jsonschema)  # the modules of plots/requirements.txt
without="what needs it (figures, tables, some tests) will be skipped."
if ! has_python_packages "${requirements[@]}"; then
  had_venv=$([ -d .venv ] && echo 1 || echo 0)
  if [ "$offline" = 1 ]; then
    note "Python lacks one of ${requirements[*]} and ATTN_OFFLINE=1: $without"
  elif ! make_venv; then
    note "python3 cannot make a virtual environment (package python3-venv): $without"
  elif ! has_python_packages "${requirements[@]}"; then
    headline "Installing plots/requirements.txt into .venv"
    if ! pip_install -r plots/requirements.txt; then
      note "pip could not install one of ${requirements[*]} (no network?): $without"
      if [ "$had_venv" -eq 0 ]; then rm -rf .venv; fi
    fi
  fi
fi

# ---- torch: optional -----------------------------------------------------------------------------
# The Python package needs an importable one; the LibTorch backends also take a distribution's
# libtorch-dev, which is older, for CPUs only, and unknown to Python.
torch_at_least=2.4

has_torch_wheel() {
  "$(project_python)" - "$torch_at_least" 2>/dev/null <<'PY'
import importlib.metadata, re, sys
version, wanted = importlib.metadata.version("torch"), sys.argv[1]
sys.exit([int(n) for n in re.findall(r"\d+", version)[:2]] < [int(n) for n in wanted.split(".")])
PY
}

torch_from_pip() {
  make_venv || return 1
  local wanted="torch>=$torch_at_least"
  if has_gpu; then
    pip_install "$wanted"
  else  # the index of the wheels without CUDA, which are much smaller
    pip_install "$wanted" --index-url https://download.pytorch.org/whl/cpu 2>/dev/null && return 0
    note "PyTorch's index of wheels for CPUs gave none: the wheel of PyPI is larger."
    pip_install "$wanted"
  fi
}

torch_from_apt() {
  may_install || return 1
  apt_install libtorch-dev 2>/dev/null
}

has_libtorch() { "$(project_python)" tools/find_torch.py >/dev/null 2>&1; }

# The package multiplies by the system's BLAS, and what comes with it is the reference one: next to
# an optimised BLAS that baseline would be a straw man. The path is the alternatives' target.
torch_has_reference_blas() {
  "$(project_python)" tools/find_torch.py 2>/dev/null | grep -x root=/usr >/dev/null &&
    readlink -f /usr/lib/*/libblas.so.3 2>/dev/null | grep '/blas/libblas\.so' >/dev/null
}

install_blas() {
  [ "$offline" != 1 ] && may_install || return 1
  headline "Installing libopenblas0-pthread for LibTorch"
  apt_install libopenblas0-pthread 2>/dev/null
}

if [ "${ATTN_TORCH:-AUTO}" != OFF ] && ! has_torch_wheel; then
  if [ "$offline" != 1 ]; then
    headline "Installing torch into .venv"
    torch_from_pip || has_libtorch || torch_from_apt || true
  fi
  has_torch_wheel || note "Python has no torch $torch_at_least: its package's tests are skipped."
  has_libtorch || note "No LibTorch was found or could be installed: its backends are NOT_BUILT."
fi
if [ "${ATTN_TORCH:-AUTO}" != OFF ] && torch_has_reference_blas; then
  install_blas || note "LibTorch has only the slow reference BLAS: install libopenblas0-pthread."
fi
