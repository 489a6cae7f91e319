#!/usr/bin/env bash
# setup.sh DIR: make a virtual environment in DIR and install dropkit and its tools into it, pinned by constraints.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}

enough='import sys; sys.exit(sys.version_info < (3, 11))'
python=
for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python; do
  if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c "$enough" 2>/dev/null; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  echo "dropkit needs Python 3.11 or newer; found: $(python3 --version 2>&1 || echo none)." >&2
  echo "Install one, or name it: make PYTHON=/path/to/python3.12 demo" >&2
  exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  echo "dropkit needs Python's venv module, which $python lacks (on Debian: apt-get install python3-venv)." >&2
  exit 1
fi

echo "Setting up $venv with $("$python" --version); this takes a minute or two the first time."
"$python" -m venv "$venv"
# The constraints pin torch: without them pip would take the newest, with gigabytes of CUDA packages on Linux. The variable,
# unlike -c, also reaches the environment that pip builds the package in.
log=$venv/pip.log
install() {
  if ! PIP_CONSTRAINT=$PWD/constraints.txt "$venv/bin/python" -m pip install --disable-pip-version-check --quiet "$@" \
      >"$log" 2>&1; then
    cat "$log" >&2
    echo "pip could not install what dropkit needs; the lines above say why." >&2
    exit 1
  fi
}
install torch  # first, because the native kernel is compiled against the torch that is there
install --editable '.[dev]'
"$venv/bin/python" - <<'EOF'
import dropkit

cpu = dropkit.backends()[0]
if cpu.backend == "reference":
    print(f"Masks will be made by the reference kernel, in plain PyTorch, which is slower: {cpu.why}.")
EOF
