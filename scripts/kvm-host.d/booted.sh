# SPDX-License-Identifier: Apache-2.0 OR MIT
# The state of the machine inside QEMU once it has booted and waits for its first command. Sourced by kvm-host.
#
# Booting takes seconds; restoring the state, which every run does, takes some tenths of one. The guest's memory is a
# file that the machine which boots writes to (share=on). A restored machine maps it privately (share=off), so that it
# reads only what it uses, and changes nothing. With the capability x-ignore-shared QEMU then saves the rest only: 0.2 MB.
# Nothing outside of the machine may be in use at that time; so it mounts this machine's files after it is restored.
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # cache, machine and such: set by kvm-host, cache.sh and machine.sh; restore, booted: for qemu.sh

# Set `booted`, the directory of the state. Its name has all that the state depends on, and this machine's boot, as the files
# may be incomplete after a power failure.
name_booted() {
	booted=$cache/booted/$({
		cat /proc/sys/kernel/random/boot_id "$parts/booted.sh" "$kernel/SHA256SUMS" "${initrd%/*}/SHA256SUMS"
		printf '%s\n' "${qemu[@]}" "${machine[@]}"
		stat -L -c '%n %s %y' "$(type -P "${qemu[0]}")"
	} | sha256sum | cut -c1-16)
}

# find_booted DIRECTORY: set `restore`, the options that restore a machine from its state, which is saved if that is needed, and
# `restore_files`, the descriptors in them; empty if that is not possible, and the machine has to boot. Pipes are made in
# DIRECTORY.
find_booted() {
	local memory_file state monitor
	restore=() restore_files=''
	booted_is_intact "$booted" || with_lock save_booted "$booted"
	# Opened here, as another kvm-host may remove it.
	booted_is_intact "$booted" && { exec {memory_file}<>"$booted/memory" {state}<"$booted/state"; } 2>/dev/null || {
		verbose "the state of the booted machine could not be saved, so it boots again; see $cache/booted.log"
		return 0
	}
	: >"$booted/used"
	mkfifo "$1"/monitor.{in,out}
	exec {monitor}<>"$1/monitor.in"
	printf 'migrate_set_capability x-ignore-shared on\nmigrate_incoming fd:%s\n' "$state" >&"$monitor"
	memory_backend "/proc/self/fd/$memory_file" off
	restore=("${backend[@]}" -incoming defer -chardev "pipe,id=monitor,path=monitor" -mon monitor)
	restore_files=$memory_file,$state,$monitor
}

memory_backend() { # memory_backend FILE SHARE: set `backend`
	backend=(-object "memory-backend-file,id=memory,mem-path=$1,size=${memory}M,share=$2" -machine memory-backend=memory)
}

# The state is compared with its checksum. The memory is not, which would take longer than all the rest. Its time is not
# either: some file systems change it when they write the pages, long after QEMU's end.
booted_is_intact() {
	[[ -e $1/facts && $(booted_facts "$1") == "$(<"$1/facts")" ]]
}

booted_facts() {
	stat -c %s "$1/memory" && sha256sum <"$1/state"
} 2>/dev/null

# Boot a machine and save its state as directory $1. If that fails, the reason is in booted.log.
save_booted() {
	local w line pid beat monitor out until=$((SECONDS + 180))
	! booted_is_intact "$1" || return 0 # another kvm-host has saved it
	open_workshop
	w=$workshop/booted
	mkdir -p "$w" "$cache/booted" 2>/dev/null || return 0
	truncate -s "${memory}M" "$w/memory"
	memory_backend memory on
	mkfifo "$w"/{out,beat.in,beat.out,monitor.in,monitor.out}
	exec {out}<>"$w/out" {monitor}<>"$w/monitor.in"
	"${tied[@]}" perl -e '$| = 1; sleep 1 while print ".\n"' <>"$w/beat.in" >&0 2>/dev/null &
	beat=$!
	children+=("$beat")
	disown
	if [[ -e $1 ]]; then
		verbose "the saved state $1 is damaged: its facts are $(booted_facts "$1" | tr '\n' ' '), not $(paste -sd ' ' "$1/facts" 2>&1)"
	else
		verbose "there is no saved state $1"
	fi
	verbose "booting the machine, to save its state"
	beside env -C "$w" "${qemu[@]}" "${machine[@]}" "${backend[@]}" -serial file:console \
		-chardev null,id=in -chardev file,id=out,path=out,append=on -chardev null,id=err -chardev pipe,id=beat,path=beat \
		-chardev pipe,id=monitor,path=monitor -mon monitor >"$w/qemu" 2>&1
	pid=$!
	while is_child "$pid" && ((SECONDS < until)); do
		read -rt 0.5 -u "$out" line && [[ $line == ready ]] || continue
		printf 'migrate_set_capability x-ignore-shared on\nmigrate "exec:cat >part && mv part state"\nquit\n' >&"$monitor"
		wait "$pid" || true
	done
	! is_child "$pid" || kill -KILL -- "-$pid"
	# QEMU does not wait for the program that writes the state.
	while [[ -e $w/part ]] && ((SECONDS < until)); do sleep 0.05; done
	kill "$beat"
	exec {out}<&- {monitor}<&-
	if [[ -s $w/state ]]; then
		rm -f "$w"/{out,beat.*,monitor.*,qemu,console}
		booted_facts "$w" >"$w/facts"
		rm -rf "$1"
		mv "$w" "$1"
		: >"$1/used"
		remove_old_booted
	else
		cat "$w/qemu" "$w/console" >"$cache/booted.log" 2>/dev/null || true
	fi
}

remove_old_booted() { # all but the three that were used last; each takes 0.3 GB
	local -a all
	mapfile -t all < <(ls -t "$cache"/booted/*/used)
	for it in "${all[@]:3}"; do rm -rf "${it%/used}"; done
}
