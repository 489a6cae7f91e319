#!/usr/bin/env bash
# Install the libraries that bench_mc.py compares with into a folder of their own, without what they need for other jobs.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/pip install --quiet --no-deps --target benchmarks/.peers --upgrade \
  torch-uncertainty==0.13.0 baal==2.1.0 einops structlog tqdm
