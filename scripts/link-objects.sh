#!/bin/sh
# Links objects of a built kernel tree to an ELF file that `verify run` takes, without a whole vmlinux.
#
#   scripts/link-objects.sh OUT vmlinux.lds OBJECT...
#
# The layout is that of the tree's own linker script. What the objects call or name and do not hold gets a place of its
# own, 64 KiB from the next, with no bytes: `verify run` takes a callee there by its contract or not at all.
#
# CROSS_COMPILE   prefix of the binutils (aarch64-linux-gnu-)
set -eu

[ $# -ge 3 ] || {
	echo 'link-objects: error: expected OUT, a linker script and objects' >&2
	exit 2
}
out=$1 layout=$2
shift 2
tools=${CROSS_COMPILE:-aarch64-linux-gnu-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"${tools}ld" -r -o "$work/all.o" "$@"
{
	# Aliases of what other objects hold (KVM's, the EFI stub's) would be undefined, and their checks with them.
	sed -E '/^(__kvm_nvhe_|__efistub_|_kernel_|PROVIDE\(|jiffies = )/d' "$layout"
	echo 'SECTIONS { .elsewhere ALIGN(_end, 0x10000) (NOLOAD) : {'
	"${tools}nm" -u "$work/all.o" | awk '{ printf "PROVIDE(%s = .); . += 0x10000;\n", $NF }' | sort -u
	echo '} }'
} >"$work/layout.lds"
"${tools}ld" --no-warn-rwx-segments -T "$work/layout.lds" -o "$out" "$work/all.o"
