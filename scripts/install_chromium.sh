#!/bin/sh
# Installs a browser for the tests marked `browser`, where that is possible without asking.
# Always exits 0: without a browser those tests skip and say so.
set -u

for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null 2>&1; then
        echo "browser: $(command -v "$name") is there already"
        exit 0
    fi
done

if ! command -v apt-get >/dev/null 2>&1; then
    echo "browser: none found and no apt-get here; install Chromium or Chrome by hand" \
        "to run the browser tests"
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "browser: none found and not root; run 'sudo apt-get install chromium'" \
        "to run the browser tests"
    exit 0
fi

echo "browser: none found, installing Debian's chromium"
export DEBIAN_FRONTEND=noninteractive
if apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; then
    echo "browser: installed $(command -v chromium)"
else
    echo "browser: apt-get could not install chromium (no network?); the browser tests will skip"
fi
exit 0
