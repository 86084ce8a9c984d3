#!/bin/sh
# Makes .venv with the pinned, hash-checked dependencies and the `verify` command, or brings it up to date.
#
#   scripts/bootstrap.sh         what `verify` needs
#   scripts/bootstrap.sh --dev   that, and what the tests and checks need
#
# PYTHON names the interpreter to use; without it the first suitable one is taken.
set -eu

cd "$(dirname "$0")/.."
root=$PWD
venv=$root/.venv
minimum='3.12'

case "${1-}" in
'') level=run ;;
--dev) level=dev ;;
*)
	echo "bootstrap: error: expected no argument or --dev, found '$1'" >&2
	exit 2
	;;
esac

# Two runs at once would install into each other's half-made environment. The lock is on the folder: no file is left.
if command -v flock >/dev/null 2>&1; then
	exec 9<"$root"
	flock 9
fi

fingerprint() {
	# The path is part of it: an environment that was copied or moved has commands that point to the old place.
	{
		echo "$root"
		cat setup.py pyproject.toml requirements-build.lock requirements.lock
		[ "$1" = run ] || cat requirements-dev.lock
	} | cksum | tr ' ' -
}

# The stamp is written last, so an interrupted install has none; it names the level after what it was made from.
stamp=$venv/kexec-verify.stamp
made=$(cat "$stamp" 2>/dev/null || true)
"$venv/bin/python" -c '' 2>/dev/null || made=''
[ "$made" != "dev $(fingerprint dev)" ] || exit 0
if [ "$made" = "run $(fingerprint run)" ]; then
	[ "$level" = dev ] || exit 0
	fresh=no
else
	fresh=yes
fi

suits() {
	"$1" -c "import sys, venv, ensurepip; sys.exit(sys.version_info < tuple(map(int, '$minimum'.split('.'))))" \
		>/dev/null 2>&1
}

candidates() {
	if [ -n "${PYTHON-}" ]; then
		echo "$PYTHON"
		return
	fi
	printf '%s\n' python3.12 python3.13 python3.14 python3 python
	for version in 3.12 3.13 3.14; do
		ls -d "${PYENV_ROOT:-${HOME-}/.pyenv}/versions/$version".*/bin/python 2>/dev/null || true
	done
	if command -v uv >/dev/null 2>&1; then
		uv python find --no-python-downloads ">=$minimum" 2>/dev/null || true
	fi
}

find_python() {
	candidates | while IFS= read -r candidate; do
		if suits "$candidate"; then
			echo "$candidate"
			break
		fi
	done
}

if [ "$fresh" = yes ]; then
	python=$(find_python)
	if [ -z "$python" ]; then
		echo "bootstrap: error: no Python $minimum or newer with venv found${PYTHON:+ (PYTHON=$PYTHON)}:" \
			"install python$minimum and python$minimum-venv, or run 'pyenv install $minimum' or" \
			"'uv python install $minimum'" >&2
		exit 2
	fi
	echo "bootstrap: making .venv with $("$python" --version)"
	rm -rf "$venv"
	"$python" -m venv "$venv"
fi
rm -f "$stamp"

# The development lock holds all that the other one does, at the same versions.
lock=requirements.lock
[ "$level" = run ] || lock=requirements-dev.lock
echo "bootstrap: installing what $lock names"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
# Errors only: where pip is set up with more indexes than one, it warns of each of them for each package.
pip_install() {
	"$venv/bin/python" -m pip install -qq --no-deps "$@"
}
pip_install --require-hashes --only-binary :all: -r requirements-build.lock
# Some packages have no wheel. Without isolation they are built by what the line above installed, and by nothing else.
pip_install --require-hashes --use-pep517 --no-build-isolation -r "$lock"
pip_install --no-index --no-build-isolation --editable .
echo "$level $(fingerprint "$level")" >"$stamp"
