#!/bin/sh
# Links objects of a built kernel tree to an ELF file that `verify run` takes, without a whole vmlinux.
#
#   scripts/link-objects.sh OUT vmlinux.lds OBJECT...
#
# The layout is that of the tree's own linker script. What the objects call or name and do not hold gets a place of its
# own, 64 KiB from the next, with no bytes: `verify run` takes a callee there by its contract or not at all.
# A kCFI type hash (__kcfi_typeid_NAME) that no object defines gets a 32-bit number made of its name.
#
# Exit status: 0, or 2 with the linker's messages if the objects cannot be linked.
#
# CROSS_COMPILE    prefix of the binutils (aarch64-linux-gnu-)
# RELOCATABLE_LD   the linker that joins the objects (CROSS_COMPILE's ld); of a build with LTO it must be lld, which
#                  compiles them
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

"${RELOCATABLE_LD:-${tools}ld}" -r -o "$work/all.o" "$@" || {
	echo 'link-objects: error: the objects do not fit together: the messages above say why' >&2
	exit 2
}
{
	# Aliases of what other objects hold (KVM's, the EFI stub's) would be undefined, and so would what the assertions
	# are about: only those on the relocation routine are kept.
	sed -E -e '/^(__kvm_nvhe_|__efistub_|_kernel_|PROVIDE\(|jiffies = )/d' \
		-e 's/ftrace_ops_list_func = [a-z_]+;//' "$layout" | awk '
		/^[ \t]*ASSERT\(/ { statement = ""; inside = 1 }
		inside {
			statement = statement $0 "\n"
			if ($0 ~ /\)[ \t]*;?[ \t]*$/) { inside = 0; if (statement ~ /relocate_new_kernel/) printf "%s", statement }
			next
		}
		{ print }'
	"${tools}nm" -u "$work/all.o" | awk '$NF ~ /^__kcfi_typeid_/ { print $NF }' | sort -u | while read -r name; do
		echo "PROVIDE($name = $(printf %s "$name" | cksum | cut -d ' ' -f 1));"
	done
	echo 'SECTIONS { .elsewhere ALIGN(_end, 0x10000) (NOLOAD) : {'
	"${tools}nm" -u "$work/all.o" | awk '$NF !~ /^__kcfi_typeid_/ { printf "PROVIDE(%s = .); . += 0x10000;\n", $NF }' |
		sort -u
	echo '} }'
} >"$work/layout.lds"
"${tools}ld" --no-warn-rwx-segments -T "$work/layout.lds" -o "$out" "$work/all.o" || {
	echo "link-objects: error: $out could not be linked: the messages above name the symbol or the object" >&2
	exit 2
}
