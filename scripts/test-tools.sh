#!/bin/sh
# Installs the system packages that tests use and this machine lacks, where that is possible: as root, with apt-get.
# Elsewhere it names them and goes on: the tests that need them say so.
set -eu

"$(dirname "$0")/bench-tools.sh" --plot

missing=''
want() {
	command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
want aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
want aarch64-linux-gnu-ld binutils-aarch64-linux-gnu
want gcc gcc
want apt-get apt
want dpkg-deb dpkg
want cadical cadical
want chromium chromium
want llvm-mc llvm

[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "test-tools: installing$missing"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq
	# shellcheck disable=SC2086
	apt-get install -qq -y --no-install-recommends $missing >/dev/null
else
	echo "test-tools: not installed, and only root with apt-get can:$missing" >&2
fi
