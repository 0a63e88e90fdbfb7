# SPDX-License-Identifier: Apache-2.0 OR MIT
# Run one command on a KVM host inside QEMU. Sourced by kvm-host.
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # known: for attend.sh; environment, kernel, initrd and such: set by kvm-host and fetch.sh

quoted() { # quoted STRING: print it quoted for sh; it may have any bytes
	printf "'%s' " "${1//\'/\'\\\'\'}"
}

# Print the script that the machine inside QEMU executes: directory, environment, arguments.
write_command() { # write_command COMMAND ARGUMENT...
	local LC_ALL=C v busybox=/dev/.kvm-host/busybox
	local -a env=()
	for v in "${environment[@]}"; do
		[[ $v == _=* ]] || env+=("$v")
	done
	env+=(COPRA_IN_KVM_HOST=1)
	echo "ulimit -n 65536"
	printf 'cd %s|| exit 126\n' "$(quoted "$PWD")"
	printf 'exec %s env -i ' $busybox
	for v in "${env[@]}"; do quoted "$v"; done
	# env would treat a command with a "=" as a variable.
	[[ $1 != *=* ]] || printf "%s sh -c 'exec \"\$0\" \"\$@\"' " $busybox
	for v in "$@"; do quoted "$v"; done
	echo
}

# The directory of one run; init reads its name as a word. It is created after the process that removes it, so
# that SIGKILL between the two leaves nothing.
make_run_directory() {
	run=$(mktemp -du "${TMPDIR:-/tmp}/copra-kvm-host.XXXXXX")
	[[ $run =~ ^[A-Za-z0-9/._-]+$ ]] || run=$(mktemp -du /tmp/copra-kvm-host.XXXXXX)
	remove_at_end "$run"
	mkdir -m 700 "$run" || fail 2 "could not create $run; set TMPDIR to a directory that you can write to"
}

machine_log() { # messages of QEMU and of the kernel in it
	cat "$machine_dir"/{qemu,console} 2>/dev/null | grep -v "TCG doesn't support requested feature" || true
}

# Set `kept`, the directory of the machine that is kept for commands like this one: with the same options and parts, files (a
# container may share the cache), rights, limits and priority. Under load each process that is started here takes long.
name_kept() {
	kept=$cache/kept/$(
		{
			echo "${memory:-default} $cpus" "$tools"/[!i]* # all but the initramfs
			stat -L -c '%n %s %Y' "$(type -P qemu-system-x86_64)" 2>/dev/null || true
			stat -L -c '%d.%i' /proc/self/ns/mnt /
			cat "$parts"/* /proc/self/limits /proc/sys/kernel/random/boot_id
			grep ^Groups: /proc/self/status
			cut -d' ' -f19 /proc/self/stat # nice
		} | sha256sum | cut -c1-16
	)
}

# start_machine: run the machine as `machine_dir`, with `keep`, its process. It is kept for the next command in the directory
# `kept`, if no other one is: that one has the lock then, which the kernel releases when it ends.
start_machine() {
	local lock='' seconds=0
	machine_dir=$run
	# In a cache that cannot be written to nothing is kept.
	if ((keep_seconds)) && (umask 077 && mkdir -p "$kept" && : >"$kept/lock") 2>/dev/null; then
		exec {lock}>"$kept/lock"
		if flock -n "$lock"; then
			machine_dir=$kept
			seconds=$keep_seconds
		fi
	fi
	rm -f "$machine_dir"/{beat,monitor}.{in,out}
	mkfifo "$machine_dir"/beat.{in,out}
	find_booted "$machine_dir"
	verbose "kernel $kernel; log $machine_dir/console"
	"$parts/keep" "$machine_dir" "$seconds" "$lock,$restore_files" "${qemu[@]}" "${machine[@]}" "${restore[@]}" \
		-serial file:console -chardev pipe,id=beat,path=beat \
		-chardev socket,id=in,path=in,server=on,wait=off \
		-chardev socket,id=out,path=out,server=on,wait=off \
		-chardev socket,id=err,path=err,server=on,wait=off \
		</dev/null >"$machine_dir/qemu" 2>&1 &
	keep=$!
	children+=("$keep")
	[[ -z $lock ]] || exec {lock}>&-
}

# attach WAIT COMMAND ARGUMENT...: let the machine of `machine_dir` carry out the command; set `ended` to the exit status of the
# program "attach".
attach() {
	local wait=$1
	shift
	ended=0
	write_command "$@" >"$run/command"
	"${tied[@]}" env -C "$machine_dir" "$parts/attach" "$wait" "$nonce" "$run/started" "$run/status" <&"$in" &
	children+=($!)
	wait $! || ended=$?
}

run_in_qemu() { # run_in_qemu COMMAND ARGUMENT...
	local nonce random in ended stops='' kept machine_dir keep=''
	type -P perl >/dev/null || fail 2 "perl is missing; install perl-base"
	open_cache
	make_run_directory

	read -rd '' nonce random < <(od -An -N64 -w32 -tx1 /dev/urandom | tr -d ' ') || true
	# It notices the end of standard input while the machine is prepared.
	[[ ${COPRA_STDIN_STOPS-} != 1 ]] || stops=$$
	exec {in}< <(exec "${tied[@]}" "$parts/feed" "go $run $nonce $random" "$run/started" $stops)
	children+=($!)

	name_kept
	machine_dir=$kept
	ended=75
	[[ $keep_seconds == 0 || ! -S $machine_dir/control ]] || attach 0 "$@"
	if [[ $ended == 75 ]]; then
		prepared || with_lock prepare
		machine_options
		name_booted
		start_machine
		attach 1 "$@"
	else
		verbose "ran on the machine that was kept from an earlier command"
	fi
	if [[ $ended == 0 ]]; then
		[[ -z ${verbose-} ]] || machine_log >&2
		[[ -z $keep || $machine_dir == "$run" ]] || let_go "$keep"
		known=1
		exit "$(<"$run/status")"
	fi
	[[ $ended != 141 ]] || exit 141
	machine_log >"$cache/failed.log"
	[[ -z $keep || ${#restore[@]} == 0 || -e $run/started ]] || rm -rf "$booted" # so that the next run saves it again
	case $ended in
	4) fail 70 "the machine inside QEMU did not start within three minutes; see $cache/failed.log" ;;
	*) fail 70 "the machine inside QEMU ended unexpectedly; see $cache/failed.log" ;;
	esac
}
