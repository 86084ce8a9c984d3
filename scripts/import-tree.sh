#!/bin/sh
# Makes build/import/kexec_verify, where each module has the path of its import name, out of links to verify/ and specs/.
# mypy and editors read it; Python itself finds the packages through the editable installation.
set -eu

cd "$(dirname "$0")/.."
tree=build/import/kexec_verify
rm -rf "$tree"
mkdir -p "$tree"
for source in verify/* specs; do
	ln -s "../../../$source" "$tree/"
done
