# SPDX-License-Identifier: Apache-2.0 OR MIT
# Determine whether KVM works on this machine. Sourced by kvm-host.
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # cache, dir: from kvm-host and cache.sh; reason: for kvm-host

# find_probe BINARY: set `probe` to the kvm-probe program to use.
find_probe() {
	local binary=$1 at root target
	probe=${COPRA_KVM_PROBE-}
	if [[ -n $probe ]]; then
		[[ -x $probe ]] || fail 2 "COPRA_KVM_PROBE is $probe, which is not executable"
		return 0
	fi
	root=$(dirname "$dir")
	at=$(dirname "$binary")
	# A source tree may belong to another user, or be read-only: without a writable target directory there, use one in the cache.
	target=${CARGO_TARGET_DIR:-${CARGO_BUILD_TARGET_DIR-}}
	[[ -n $target || ! -w $root/target ]] || target=$root/target
	target=$(realpath -m "${target:-$cache/target}")
	for probe in "$at/kvm-probe" "$at/../kvm-probe" "$target"/{release,debug}/kvm-probe; do
		[[ ! -x $probe ]] || return 0
	done
	[[ -e $root/vmm/src/bin/kvm-probe.rs ]] && type -P cargo >/dev/null || return 1
	say "building kvm-probe to find out whether KVM works here"
	attended env -C "$root" cargo build -q --locked --target-dir "$target" -p copra-vmm --bin kvm-probe >&2 || return 1
	probe=$target/debug/kvm-probe
	[[ -x $probe ]]
}

# kvm_works_here BINARY: succeed if so, else set `reason`. The result is cached until
# the machine restarts or the probe changes.
kvm_works_here() {
	local kept key verdict=''
	[[ -e /dev/kvm ]] || { reason="there is no /dev/kvm here"; return 1; }
	[[ -r /dev/kvm && -w /dev/kvm ]] || { reason="no permission to use /dev/kvm here"; return 1; }
	open_cache
	find_probe "$1" || { reason="no kvm-probe to find out whether /dev/kvm works here"; return 1; }

	kept=$cache/probe
	key="$(</proc/sys/kernel/random/boot_id) $(stat -L -c '%y %s' "$probe")"
	if [[ -r $kept ]] && { read -r verdict && [[ $verdict == "$key" ]] && read -r verdict; } <"$kept"; then
		verbose "result of the probe, from the cache: $verdict"
	else
		run_probe
		printf '%s\n' "$key" "$verdict" >"$kept.$$" && mv "$kept.$$" "$kept"
	fi
	[[ $verdict != ok ]] || return 0
	reason="/dev/kvm here cannot run a 64-bit guest ($verdict)"
	return 1
}

run_probe() { # set `verdict` to ok or a reason
	local status=0 messages
	messages=$(mktemp "$cache/probe.XXXXXX")
	leftovers+=("$messages")
	attended timeout -k 1 30 setpriv --pdeathsig KILL "$probe" 2>"$messages" >/dev/null || status=$?
	verdict=$(<"$messages")
	rm "$messages"
	verbose "$probe: exit status $status${verdict:+, $verdict}"
	verdict=${verdict##*$'\n'}
	verdict=${verdict#kvm-probe: }
	case $status in
	0) verdict=ok ;;
	124 | 137) verdict="the probe did not end within 30 s" ;;
	*) verdict=${verdict:-exit status $status} ;;
	esac
}
