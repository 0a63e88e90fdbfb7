# SPDX-License-Identifier: Apache-2.0 OR MIT
# Run one command on a KVM host inside QEMU. Sourced by kvm-host.
# shellcheck shell=bash
# shellcheck disable=SC2154 # environment, kernel, initrd and such: set by kvm-host and fetch.sh

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
	printf '%s date -s @%s >/dev/null\n' $busybox $EPOCHSECONDS # a restored machine has the time of its state
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
	cat "$run/qemu" "$run/console" 2>/dev/null | grep -v "TCG doesn't support requested feature" || true
}

run_in_qemu() { # run_in_qemu COMMAND ARGUMENT...
	local nonce random in out err out_pid err_pid ended=0 stops='' options
	type -P perl >/dev/null || fail 2 "perl is missing; install perl-base"
	open_cache
	make_run_directory

	read -rd '' nonce random < <(od -An -N64 -w32 -tx1 /dev/urandom | tr -d ' ') || true
	# A process of its own, as QEMU would make our standard input non-blocking.
	[[ ${COPRA_STDIN_STOPS-} != 1 ]] || stops=$$
	exec {in}< <(exec "${tied[@]}" "$parts/feed" "go $run $nonce $random" "$run/started" $stops)
	children+=($!)

	prepared || with_lock prepare
	machine_options
	find_booted
	write_command "$@" >"$run/command"

	# Only QEMU has the writing ends open, so they are closed whenever it ends.
	exec {out}> >(exec {in}<&- && exec "$parts/relay" out "$nonce" "$run/status" "$run/started")
	out_pid=$!
	exec {err}> >(exec {in}<&- {out}>&- && exec "$parts/relay" err "$nonce" "$run/status.err" >&2)
	err_pid=$!
	start_beat "$run" {out}>&- {err}>&- {in}<&-
	options=(
		-serial "file:$run/console"
		-add-fd "fd=$out,set=1" -add-fd "fd=$err,set=2"
		-chardev "stdio,id=in,signal=off"
		# append: the set's files are pipes, which cannot be truncated
		-chardev "file,id=out,path=/dev/fdset/1,append=on"
		-chardev "file,id=err,path=/dev/fdset/2,append=on"
		-chardev "pipe,id=beat,path=$run/beat"
	)
	verbose "kernel $kernel; log $run/console until the end"
	"${tied[@]}" "${qemu[@]}" "${machine[@]}" "${restore[@]}" "${options[@]}" <&"$in" >"$run/qemu" 2>&1 &
	children+=($!)
	disown # so that the shell prints no message if it is killed
	exec {in}<&- {out}>&- {err}>&-

	wait "$out_pid" || ended=$?
	if [[ $ended == 0 ]]; then
		wait "$err_pid" || true
		[[ -z ${verbose-} ]] || machine_log >&2
		exit "$(<"$run/status")"
	fi
	[[ $ended != 141 ]] || exit 141
	machine_log >"$cache/failed.log"
	[[ ${#restore[@]} == 0 || -e $run/started ]] || rm -rf "$booted" # so that the next run saves it again
	case $ended in
	4) fail 70 "the machine inside QEMU did not start within three minutes; see $cache/failed.log" ;;
	*) fail 70 "the machine inside QEMU ended unexpectedly; see $cache/failed.log" ;;
	esac
}
