# SPDX-License-Identifier: Apache-2.0 OR MIT
# Processes and temporary files of kvm-host, which end or are removed with it. Sourced by kvm-host.
# shellcheck shell=bash

children=() leftovers=()

# beside COMMAND...: run it in a process group of its own, beside this shell. It ends with this shell.
beside() {
	setpriv --pdeathsig TERM setsid "$@" <&0 &
	children+=($!)
}

# let_go CHILD: it does not end with this shell.
let_go() {
	local i
	for i in "${!children[@]}"; do
		[[ ${children[i]} != "$1" ]] || unset "children[i]"
	done
}

# attended COMMAND...: run it and wait for it. Used for everything that takes long, since a trap runs when `wait` is
# interrupted, but not before a command in the foreground has ended.
attended() {
	beside "$@"
	wait $!
}

# "${tied[@]}" COMMAND...: COMMAND, which is killed when this shell ends, even by SIGKILL, and is not started if the shell
# ended before setpriv had set that.
# shellcheck disable=SC2016,SC2034 # for sh; used by qemu.sh
tied=(setpriv --pdeathsig KILL sh -c '[ "$PPID" = "$0" ] && exec "$@"' "$$")

# remove_at_end PATH: remove it when this shell ends, even by SIGKILL: a process waits for the end of a pipe, whose other end
# this shell and all that it started have open.
remove_at_end() {
	leftovers+=("$1")
	local end
	# shellcheck disable=SC2016,SC2034 # for perl; the descriptor only stays open
	exec {end}> >(exec setsid perl -e '1 while sysread STDIN, $_, 1; exec qw(rm -rf --), @ARGV' "$1" >/dev/null 2>&1)
}

# Called on every exit.
# shellcheck disable=SC2317 # called by the trap
clean_up() {
	local status=$? child
	# With "set -e" a command that failed here ends the script with that command's status, as if COMMAND had ended with it.
	if [[ -z ${known-} && ! $status =~ ^(0|2|70|127|129|1[3-9].)$ ]]; then
		say "it could not go on, for the reason above (status $status)"
		status=2
	fi
	trap '' HUP INT TERM # a second signal must not stop this; rm inherits the setting
	exec 2>/dev/null # the shell would print "Killed"
	for child in "${children[@]}"; do
		while is_child "$child" && { kill -KILL -- "-$child" || kill -KILL "$child"; }; do sleep 0.01; done
	done
	rm -rf "${leftovers[@]}"
	exit "$status"
}
# The number of a child that has ended may belong to another process by now.
is_child() {
	local stat
	{ read -r stat <"/proc/$1/stat"; } 2>/dev/null &&
		[[ ${stat##*) } =~ ^[^Z]\ $$\  ]]
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
