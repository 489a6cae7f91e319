#!/usr/bin/env bash
# randomness.sh [DIR]: put the mask bytes of the contract through the dieharder battery; results and tools go to DIR.
# Takes about a quarter of an hour on one processor. MODES and TESTS select a part: MODES="index seeds" TESTS="100,200 -n 4".
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-$(mktemp -d)}
mkdir -p "$out"
read -r -a modes <<<"${MODES:-index streams steps seeds}"
# All tests but those that dieharder itself calls suspect (5, 6, 7) or unusable (14).
all="0,1,2,3,4,8,9,10,11,12,13,15,16,17,100,101,102,200 -n 4,200 -n 8,201 -n 3,202 -n 5,203 -n 0,203 -n 3,204,205,206,207,208,209"
IFS=, read -r -a tests <<<"${TESTS:-$all}"

if ! command -v dieharder >/dev/null; then
  if ! command -v apt-get >/dev/null; then
    echo "randomness.sh: no dieharder found, and no apt-get here. Install dieharder and run this again." >&2
    exit 1
  fi
  as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  export DEBIAN_FRONTEND=noninteractive
  ${as_root[@]+"${as_root[@]}"} apt-get update >&2
  ${as_root[@]+"${as_root[@]}"} apt-get install -y --no-install-recommends dieharder >&2
fi

"${CXX:-c++}" -std=c++17 -O2 -Isrc/dropkit/kernels/native/csrc tests/native/raw_stream.cpp -o "$out/raw_stream"
"${PYTHON:-.venv/bin/python}" - >"$out/streams.txt" <<'EOF'
from dropkit.core.streams import stream_number

for i in range(4096):
    print(stream_number(f"layers.{i}"))
EOF

: >"$out/result.txt"
for mode in "${modes[@]}"; do
  for test in "${tests[@]}"; do
    # dieharder closes the pipe when it has read enough, which ends raw_stream with an error that means nothing. The test's
    # number and its option are two words.
    # shellcheck disable=SC2086
    { "$out/raw_stream" "$mode" "$out/streams.txt" 2>/dev/null || true; } | dieharder -g 200 -d $test 2>/dev/null |
      { grep -E 'PASSED|WEAK|FAILED' || echo " no result of -d $test | | | | | FAILED"; } | sed "s/^/$mode|/" | tee -a "$out/result.txt"
  done
done

awk -F'|' '
  BEGIN { printf "\n%-10s %6s %7s %5s %7s\n", "mode", "tests", "PASSED", "WEAK", "FAILED" }
  { if (!($1 in count)) order[++modes] = $1
    gsub(/ /, "", $7); count[$1]++; seen[$1, $7]++; failed += $7 == "FAILED" }
  END { for (i = 1; i <= modes; i++) { m = order[i]
          printf "%-10s %6d %7d %5d %7d\n", m, count[m], seen[m, "PASSED"], seen[m, "WEAK"], seen[m, "FAILED"] }
        exit failed > 0 }' "$out/result.txt"
