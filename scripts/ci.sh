#!/bin/sh
# Verifies each TARGET and gates on it: what the GitHub Action and the GitLab template run.
#
#   scripts/ci.sh TARGET...
#
# VERIFY    the command to use; without it this project's own, installed by scripts/bootstrap.sh
# REPORTS   where runs are written (reports), and the gate's files: $REPORTS/gate; runs that it held are dropped
# BASELINE, POLICY   files for the gate; empty for none
# BINARY    the binary that is about to be shipped, if it must be the one target; empty for none
# MUTANTS   how many seeded faults to try on each target; empty for none
#
# Exit status: that of the gate, or of a run that left nothing to gate.
set -eu

[ $# -gt 0 ] || {
	echo 'ci: error: expected a TARGET, found none' >&2
	exit 2
}
root=$(cd "$(dirname "$0")/.." && pwd)
VERIFY=${VERIFY:-"$root/.venv/bin/verify"}
REPORTS=${REPORTS:-reports}
files=$REPORTS/gate

# The command may have arguments of its own.
verify() {
	# shellcheck disable=SC2086
	$VERIFY "$@"
}

# What an earlier job left must not be taken for this one's: neither its runs nor what was said of them.
mkdir -p "$files"
rm -f "$files"/* "$REPORTS"/*/run.json "$REPORTS"/*/mutation.json

status=0
verify run "$@" --reports "$REPORTS" --quiet || status=$?
# 1 and 3 are verdicts, of which the gate speaks; anything else left nothing that it could speak of.
case $status in
0 | 1 | 3) ;;
*) exit "$status" ;;
esac

if [ -n "${MUTANTS-}" ]; then
	for target; do
		verify mutate "$target" --most "$MUTANTS" --reports "$REPORTS" || [ $? -eq 3 ]
	done
fi

set -- "$REPORTS"
if [ -n "${BASELINE-}" ] && [ ! -e "$BASELINE" ]; then
	# The first job has nothing to compare with. It gates on its own, and leaves a baseline to commit.
	verify gate "$REPORTS" --baseline "$files/baseline.json" --update-baseline
	echo "ci: $BASELINE does not exist yet: to gate on it, commit $files/baseline.json under that name"
	BASELINE=
fi
[ -z "${BASELINE-}" ] || set -- "$@" --baseline "$BASELINE"
[ -z "${POLICY-}" ] || set -- "$@" --policy "$POLICY"
[ -z "${BINARY-}" ] || set -- "$@" --binary "$BINARY"
status=0
verify gate "$@" \
	--format text \
	--format "json=$files/gate.json" \
	--format "junit=$files/junit.xml" \
	--format "ktap=$files/gate.ktap" \
	--format "sarif=$files/gate.sarif" \
	--format "github=$files/annotations.txt" \
	--format "summary=$files/summary.md" \
	--format "markdown=$files/comment.md" \
	--format "kernel=$files/findings.txt" || status=$?

if [ "${GITHUB_ACTIONS-}" = true ] && [ -f "$files/annotations.txt" ]; then
	cat "$files/annotations.txt"
	cat "$files/summary.md" >>"${GITHUB_STEP_SUMMARY:-/dev/null}"
fi
exit "$status"
