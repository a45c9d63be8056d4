# Shared by the scripts in tools/: sourced, never run. Every script works from the project's root.

headline() { printf '\n== %s\n' "$*"; }
note() { printf '   %s\n' "$*"; }
fail() { printf '%s\n' "$*" >&2; exit 1; }

# Where the build goes; ATTN_BUILD_DIR lets a check build beside the one in use.
build_dir() { printf '%s' "${ATTN_BUILD_DIR:-build}"; }

# The Python that has the plots' packages: the project's own environment when there is one.
project_python() {
  if [ -x .venv/bin/python ]; then printf '%s' "$PWD/.venv/bin/python"; else printf 'python3'; fi
}

# has_python_packages <module>...: the project's Python can import all of them.
has_python_packages() {
  "$(project_python)" - "$@" 2>/dev/null <<'PY'
import importlib.util as u, sys
sys.exit(any(u.find_spec(name) is None for name in sys.argv[1:]))
PY
}

has_gpu() { command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q GPU; }

# The project's C++ and CUDA sources: those under git's care, or, without git, those in its folders.
sources() {
  {
    git ls-files -co --exclude-standard -- '*.h' '*.c' '*.cpp' '*.cu' '*.cuh' 2>/dev/null ||
      find examples harness impls python reference tests \
        -name '*.h' -o -name '*.c' -o -name '*.cpp' -o -name '*.cu*'
  } | while IFS= read -r file; do
    if [ -f "$file" ]; then printf '%s\n' "$file"; fi  # a deleted file is still in git's index
  done
}

# The pinned version where it is there: other versions of the same tool format differently.
clang_tool() {
  local name
  for name in "$1-14" "$1"; do
    if command -v "$name" >/dev/null 2>&1; then printf '%s' "$name"; return 0; fi
  done
  return 1
}
