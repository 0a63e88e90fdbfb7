# SPDX-License-Identifier: Apache-2.0 OR MIT
# Debian's packages, downloaded and unpacked but never installed. Sourced by kvm-host.
# shellcheck shell=bash
# shellcheck disable=SC2154 # cache, workshop: set by cache.sh

# Apt with its own state: usable without root, and without effect on the system's.
apt_lists=()
private_apt() { # private_apt PROGRAM ARGUMENT...
	local program=$1
	shift
	attended env -C "${apt_dir:-$workshop}" "$program" -qq -o Dir::Cache="$cache/apt/cache" -o APT::Sandbox::User=root \
		-o Debug::NoLocking=1 "${apt_lists[@]}" "$@" </dev/null
}

# with_lists WHAT FUNCTION [ARGUMENT...]: call FUNCTION with the system's package lists, and if that fails, as they may
# be absent or old, with new ones in the cache. Apt's error messages go to apt_log.
with_lists() {
	local what=$1
	shift
	type -P apt-get >/dev/null && type -P dpkg-deb >/dev/null ||
		fail 2 "$what is missing here, and there is no apt-get to fetch it with; install it"
	mkdir -p "$cache/apt/cache/archives/partial" "$cache/apt/lists/partial"
	apt_log=$cache/apt/log
	: >"$apt_log"
	! "$@" || return 0
	if [[ ${#apt_lists[@]} == 0 ]]; then
		apt_lists=(-o "Dir::State::Lists=$cache/apt/lists")
		say "fetching package lists"
		if private_apt apt-get update >>"$apt_log" 2>&1; then
			! "$@" || return 0
		fi
	fi
	fail 2 "could not fetch $what: $(grep -E '^E:|error:' "$apt_log" | tail -n1); check the network, and that apt has Debian's repositories (for the kernel, bookworm-security or newer)"
}

# newest PATTERN PREFIX: set `package` to the newest package in apt's lists whose name matches.
newest() {
	private_apt apt-cache pkgnames "$2" >"$workshop/names" 2>>"$apt_log" || return 1
	package=$(grep -E "$1" "$workshop/names" | sort -V | tail -n1)
	[[ -n $package ]] || {
		echo "E: no package in apt's lists begins with $2" >>"$apt_log"
		return 1
	}
}

# unpack DIR PACKAGE[=VERSION]...: download and unpack below DIR.
unpack() {
	local into=$1 deb size progress=-qq
	shift
	mkdir -p "$into"
	private_apt apt-get download --print-uris "$@" >"$workshop/uris" 2>>"$apt_log" || return 1
	size=$(awk '{ sum += $3 } END { print int(sum / 1e6 + 1) }' "$workshop/uris")
	say "fetching ${1%%=*}$( (($# == 1)) || echo " and $(($# - 1)) more packages") ($size MB)"
	[[ ! -t 2 ]] || progress=-q=0
	apt_dir=$into private_apt apt-get $progress download "$@" >&2 2> >(tee -a "$apt_log" >/dev/null) || return 1
	for deb in "$into"/*.deb; do
		attended dpkg-deb -x "$deb" "$into" 2>>"$apt_log" || return 1
		rm -f "$deb"
	done
}
