#!/bin/sh
# Install the Debian packages that tests need; without root only name them: their tests then say why they are skipped.
# The list is debian-packages.txt here, or the one that is given, from here.
set -eu
cd "$(dirname "$0")"
missing=""
for package in $(sed 's/#.*//' "${1:-debian-packages.txt}"); do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
  echo "Not installed, so the tests that need them will be skipped:$missing" >&2
  exit 0
fi
echo "Installing for the tests:$missing" >&2
# Services that packages bring must not start on a developer's machine.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  printf '#!/bin/sh\nexit 101\n' >$policy
  chmod +x $policy
  trap 'rm -f $policy' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
# An old index names packages that are gone: refresh it, and let a failure leave skipped tests, not a broken run.
apt-get update -qq || true
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing >/dev/null || echo "Could not install:$missing" >&2
