# SPDX-License-Identifier: LGPL-2.1-or-later
# Sourced by the other scripts: where things are, and how to say what happens.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${CZONE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/czone}
build=${CZONE_BUILD:-$top/build}
PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# step "what happens" command...: one line before and one after, the command's
# output in a log that is shown when it fails; a sign of life every 30 s.
step() {
	local what=$1 log start pid status=0
	shift
	log=$(mktemp "${TMPDIR:-/tmp}/czone-step.XXXXXX")
	start=$SECONDS
	say "-- $what"
	"$@" >"$log" 2>&1 &
	pid=$!
	# in the background it does not hear an interrupt
	trap 'kill "$pid" 2>/dev/null; wait "$pid"; rm -f "$log"; exit 130' INT TERM
	while kill -0 "$pid" 2>/dev/null; do
		sleep 0.2
		if ((SECONDS - start >= 30 && (SECONDS - start) % 30 == 0 && SECONDS != ${last:-0})); then
			last=$SECONDS
			say "   ... $((SECONDS - start)) s: $(tail -n 1 "$log" | cut -c 1-100)"
		fi
	done
	wait "$pid" || status=$?
	trap - INT TERM
	if ((status)); then
		tail -n 60 "$log" >&2
		rm -f "$log"
		die "failed ($status): $what"
	fi
	rm -f "$log"
	say "   done in $((SECONDS - start)) s"
}

# private_apt_init DIR SUITE...: lets private_apt see these suites of Debian and
# nothing of this system, below DIR. The mirrors are those of the system's apt.
private_apt_init() {
	local dir=$1 keyring=/usr/share/keyrings/debian-archive-keyring.gpg suite label mirror
	shift
	[[ -r $keyring ]] || die "$keyring is missing: install debian-archive-keyring"
	mkdir -p "$dir"/{state/lists/partial,cache/archives/partial,etc/preferences.d}
	: >"$dir/status"
	for suite; do
		label=Debian
		[[ $suite != *-security ]] || label=Debian-Security
		mirror=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' 'Created-By: Packages' |
			awk -v label=$label '$2 == "Debian" && $3 == label { print $1; exit }')
		[[ $mirror ]] || die "apt knows no mirror of $label; run 'apt-get update' as root first"
		echo "deb [signed-by=$keyring] $mirror $suite main"
	done >"$dir/etc/sources.list"
	private_apt_dir=$dir
}

# private_apt get|cache ARG...
private_apt() {
	local tool=$1 dir=$private_apt_dir
	shift
	"apt-$tool" -q -o Dir::State="$dir/state" -o Dir::State::status="$dir/status" \
		-o Dir::Cache="$dir/cache" -o Dir::Etc::sourcelist="$dir/etc/sources.list" \
		-o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferencesparts="$dir/etc/preferences.d" \
		-o Debug::NoLocking=1 -o APT::Sandbox::User= -o APT::Install-Recommends=0 \
		-o APT::Update::Post-Invoke-Success::= "$@"
}
