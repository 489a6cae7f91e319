#!/usr/bin/env bash
# Install Chromium for the report's browser tests (pytest -m browser). Quick and harmless when it is there already.
set -eu

find_browser() {
  command -v chromium || command -v chromium-browser || command -v google-chrome
}

if browser=$(find_browser); then
  echo "browser: $browser"
  exit 0
fi

by_hand="Install Chromium or Google Chrome yourself, so that 'chromium', 'chromium-browser' or 'google-chrome' is on PATH"

if ! command -v apt-get >/dev/null; then
  echo "browser.sh: no browser found, and no apt-get here. $by_hand, and run this again to check." >&2
  exit 1
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "browser.sh: installing needs root or sudo. Run 'apt-get install chromium' as root. Or: $by_hand." >&2
    exit 1
  fi
  as_root=(sudo)
fi

export DEBIAN_FRONTEND=noninteractive
if ! { ${as_root[@]+"${as_root[@]}"} apt-get update &&
       ${as_root[@]+"${as_root[@]}"} apt-get install -y --no-install-recommends chromium; }; then
  echo "browser.sh: apt-get could not install the package 'chromium'. Look at its messages above. $by_hand." >&2
  exit 1
fi

if ! browser=$(find_browser); then
  echo "browser.sh: apt-get succeeded, yet no browser is on PATH. $by_hand." >&2
  exit 1
fi
echo "browser: $browser"
