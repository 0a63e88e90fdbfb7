# SPDX-License-Identifier: Apache-2.0 OR MIT
# Where kvm-host keeps what it fetched. Sourced by kvm-host.
#
# Files in the cache are executed by the user of kvm-host, who may be root. So no other user may be able to write there,
# and every part has a list of checksums that is compared before the part is used.
# shellcheck shell=bash

# Set `cache`, and create it; refuse one that another user could have written to.
open_cache() {
	local base at here=() owner mode group name overflow=-1
	[[ -z ${cache-} ]] || return 0
	base=${XDG_CACHE_HOME-}
	if [[ $base != /* ]]; then
		[[ ${HOME-} == /* ]] || fail 2 "found no place for the cache: neither XDG_CACHE_HOME nor HOME is an absolute path; set one of them"
		base=$HOME/.cache
	fi
	cache=$base/copra/kvm-host
	[[ -d $cache ]] || (umask 077 && mkdir -p "$cache") ||
		fail 2 "could not create $cache; set XDG_CACHE_HOME to a directory of yours"
	at=$(readlink -f "$cache")
	# In a user namespace the real root may have no number of its own.
	grep -q '^ *0 *0 *4294967295$' /proc/self/uid_map || overflow=$(</proc/sys/kernel/overflowuid)
	while :; do
		here+=("$at")
		[[ $at != / ]] || break
		at=$(dirname "$at")
	done
	while read -r owner mode name group at; do
		((owner == 0 || owner == EUID || owner == overflow)) ||
			fail 2 "$at belongs to $name, who could change what kvm-host runs from $cache; set XDG_CACHE_HOME to a directory of your own"
		# A user's private group has the user's name; in a sticky directory other users cannot replace entries.
		((8#$mode & 8#002)) || { ((8#$mode & 8#020)) && [[ $name != "$group" ]]; } || continue
		[[ $at != "${here[0]}" ]] && ((8#$mode & 8#1000)) && continue
		fail 2 "$at can be written by others (mode $mode), who could change what kvm-host runs from $cache; chmod go-w $at and remove $cache, or set XDG_CACHE_HOME to a directory of your own"
	done < <(stat -c '%u %a %U %G %n' "${here[@]}")
	tools=$cache/tools
}

# A directory on the cache's file system: parts are made there and moved to their final name when complete.
open_workshop() {
	local old
	mkdir -p "$cache/tmp" "$tools"
	if [[ -z ${workshop-} ]]; then
		# Leftovers of a power failure.
		find "$cache/tmp" -mindepth 1 -maxdepth 1 -mtime +1 -exec rm -rf {} +
		workshop=$(mktemp -d "$cache/tmp/XXXXXX")
		remove_at_end "$workshop"
	fi
	old=("$workshop"/*)
	rm -rf "${old[@]}"
}

files_of() { # files_of DIR: every file and link in it but the list itself
	(cd "$1" && find . ! -type d ! -path ./SHA256SUMS -print0 | LC_ALL=C sort -z)
}

# install_part DIR NAME: give DIR its checksums and its final name, tools/NAME.
install_part() {
	files_of "$1" | (cd "$1" && xargs -0 sha256sum >SHA256SUMS)
	rm -rf "${tools:?}/$2"
	mv "$1" "$tools/$2"
}

# intact DIR: succeed if all files exist and match their checksums.
intact() {
	[[ -e $1/SHA256SUMS ]] &&
		[[ $(cut -c67- "$1/SHA256SUMS") == "$(files_of "$1" | tr '\0' '\n')" ]] &&
		(cd "$1" && sha256sum --check --status --strict SHA256SUMS) 2>/dev/null
}

# newest_part PREFIX: set `part` to the newest intact part whose name begins with PREFIX.
newest_part() {
	local candidates
	part=
	mapfile -t candidates < <(printf '%s\n' "$tools/$1"* | sort -rV)
	for part in "${candidates[@]}"; do
		! intact "$part" || return 0
	done
	part=
	return 1
}

discard_damaged_parts() {
	local it
	for it in "$tools"/*; do
		[[ -d $it ]] && ! intact "$it" || continue
		say "${it##*/} in the cache is damaged (its files do not match their checksums); replacing it"
		rm -rf "$it"
	done
}

# with_lock FUNCTION: call FUNCTION while no other kvm-host fetches into the cache.
with_lock() {
	local lock
	exec {lock}>"$cache/lock"
	attended flock -w 3 "$lock" || {
		say "waiting for another kvm-host that prepares the cache"
		attended flock "$lock"
	}
	"$@"
	flock -u "$lock" # processes that were started meanwhile have it open, too
	exec {lock}>&-
}
