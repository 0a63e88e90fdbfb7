# SPDX-License-Identifier: Apache-2.0 OR MIT
# Does KVM work on this machine? Sourced by kvm-host.
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # cache, dir: from kvm-host and cache.sh; reason: for kvm-host

# find_probe BINARY: set `probe` to the kvm-probe program to use.
find_probe() {
	local binary=$1 at root target
	probe=${COPRA_KVM_PROBE-}
	if [[ -n $probe ]]; then
		[[ -x $probe ]] || fail 2 "COPRA_KVM_PROBE is $probe, which is no program"
		return 0
	fi
	root=$(dirname "$dir")
	at=$(dirname "$binary")
	# A source tree may be somebody else's, or read-only: without a target directory there, the cache has one.
	target=${CARGO_TARGET_DIR:-${CARGO_BUILD_TARGET_DIR-}}
	[[ -n $target || ! -w $root/target ]] || target=$root/target
	target=$(realpath -m "${target:-$cache/target}")
	for probe in "$at/kvm-probe" "$at/../kvm-probe" "$target"/{release,debug}/kvm-probe; do
		[[ ! -x $probe ]] || return 0
	done
	[[ -e $root/vmm/src/bin/kvm-probe.rs ]] && type -P cargo >/dev/null || return 1
	say "building kvm-probe to see whether KVM works here"
	attended env -C "$root" cargo build -q --locked --target-dir "$target" -p copra-vmm --bin kvm-probe >&2 || return 1
	probe=$target/debug/kvm-probe
	[[ -x $probe ]]
}

# kvm_works_here BINARY: succeed if so, else set `reason`. The answer holds until
# the machine restarts or the probe changes, and is kept for as long.
kvm_works_here() {
	local kept key verdict=''
	[[ -e /dev/kvm ]] || { reason="there is no /dev/kvm here"; return 1; }
	[[ -r /dev/kvm && -w /dev/kvm ]] || { reason="no permission to use /dev/kvm here"; return 1; }
	open_cache
	find_probe "$1" || { reason="no kvm-probe to tell whether /dev/kvm works here"; return 1; }

	kept=$cache/probe
	key="$(</proc/sys/kernel/random/boot_id) $(stat -L -c '%y %s' "$probe")"
	if [[ -r $kept ]] && { read -r verdict && [[ $verdict == "$key" ]] && read -r verdict; } <"$kept"; then
		verbose "the probe said: $verdict"
	else
		ask_probe
		printf '%s\n' "$key" "$verdict" >"$kept.$$" && mv "$kept.$$" "$kept"
	fi
	[[ $verdict != ok ]] || return 0
	reason="/dev/kvm here cannot run a 64-bit guest ($verdict)"
	return 1
}

ask_probe() { # set `verdict` to ok or a reason
	local status=0 said
	said=$(mktemp "$cache/said.XXXXXX")
	leftovers+=("$said")
	attended timeout -k 1 30 setpriv --pdeathsig KILL "$probe" 2>"$said" >/dev/null || status=$?
	verdict=$(<"$said")
	rm "$said"
	verbose "$probe: exit status $status${verdict:+, $verdict}"
	verdict=${verdict##*$'\n'}
	verdict=${verdict#kvm-probe: }
	case $status in
	0) verdict=ok ;;
	124 | 137) verdict="the probe did not come back" ;;
	*) verdict=${verdict:-exit status $status} ;;
	esac
}
