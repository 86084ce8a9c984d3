#!/bin/sh
# Installs what only the measurements use: matplotlib into .venv, and Debian's cbmc. Where cbmc cannot be had, the
# measurements go on without it and say so.
#
#   scripts/bench-tools.sh           both
#   scripts/bench-tools.sh --plot    matplotlib only
set -eu

cd "$(dirname "$0")/.."
stamp=.venv/kexec-bench.stamp
lock=requirements-bench.lock
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$(cksum <"$lock")" ]; then
	echo "bench-tools: installing what $lock names"
	PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 .venv/bin/python -m pip install -qq --no-deps --require-hashes -r "$lock"
	cksum <"$lock" >"$stamp"
fi

[ "${1-}" != --plot ] || exit 0

place=build/bench-tools
if command -v cbmc >/dev/null 2>&1 || [ -x "$place/cbmc" ]; then
	exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
	echo "bench-tools: cbmc is not installed, and there is no apt-get to install it with" >&2
	exit 0
fi
if [ "$(id -u)" = 0 ] && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends cbmc >/dev/null 2>&1; then
	exit 0
fi

# Debian 12 has no cbmc and Debian 13 has. It is fetched from there with the machine's own sources and keys, into a
# private directory: the machine's own lists and packages stay as they are.
suite=trixie
root=$PWD/$place
rm -rf "$root"
mkdir -p "$root/state/lists/partial" "$root/cache/archives/partial" "$root/sources" "$root/packages" "$root/files"
: >"$root/state/status"
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
	[ -f "$file" ] || continue
	# One stanza is enough: the first of Debian's own archive.
	sed -n -E "s/^(URIs|Signed-By|Types|Components): .*/&/p; s/^Suites: [a-z]+( .*)?$/Suites: $suite/p; /^$/q" "$file" \
		>"$root/sources/debian.sources"
	grep -q '^URIs:.*debian' "$root/sources/debian.sources" && break
done
cat >"$root/apt.conf" <<END
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
Dir::State "$root/state";
Dir::State::status "$root/state/status";
Dir::Cache "$root/cache";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$root/sources";
Acquire::Languages "none";
END
[ "$(id -u)" != 0 ] || echo 'APT::Sandbox::User "root";' >>"$root/apt.conf"
if ! {
	apt-get -qq -c "$root/apt.conf" update &&
		(cd "$root/packages" && apt-get -qq -c "$root/apt.conf" download cbmc minisat libc6 libgcc-s1 libstdc++6 zlib1g) &&
		for package in "$root"/packages/*.deb; do dpkg-deb -x "$package" "$root/files"; done
} >/dev/null; then
	echo "bench-tools: cbmc could not be fetched from Debian's $suite" >&2
	rm -rf "$root"
	exit 0
fi
libraries=$(find "$root/files" -name '*.so.*' -exec dirname {} + | sort -u | tr '\n' ':')
loader=$(find "$root/files" -name 'ld-linux*.so.*' | head -n 1)
cat >"$root/cbmc" <<END
#!/bin/sh
exec "$loader" --library-path "$libraries" "$root/files/usr/bin/cbmc" "\$@"
END
chmod +x "$root/cbmc"
"$root/cbmc" --version >/dev/null || rm -rf "$root"
