#!/bin/sh
# Runs the commands that build a target, for the GitHub Action and the GitLab template.
#
#   scripts/build-target.sh COMMANDS
#
# If COMMANDS name the cross compiler aarch64-linux-gnu-… and it is missing, it is installed first, with what a kernel's
# build needs. This takes apt-get, as root or with sudo. Exit status: that of COMMANDS, or 2 if the compiler is missing.
set -eu

[ $# -eq 1 ] || {
	echo 'build-target: error: expected COMMANDS as one argument' >&2
	exit 2
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null 2>&1; then
		sudo "$@"
	else
		return 1
	fi
}

case $1 in
*aarch64-linux-gnu-*)
	if ! command -v aarch64-linux-gnu-gcc >/dev/null 2>&1 || ! command -v aarch64-linux-gnu-ld >/dev/null 2>&1; then
		echo 'build-target: installing gcc-aarch64-linux-gnu'
		if ! command -v apt-get >/dev/null 2>&1 || ! as_root apt-get update -qq ||
			! as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
				gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc make bc bison flex libssl-dev >/dev/null; then
			echo 'build-target: error: aarch64-linux-gnu-gcc is missing and cannot be installed:' \
				'install it in the image of the job' >&2
			exit 2
		fi
	fi
	;;
esac
exec sh -euc "$1"
