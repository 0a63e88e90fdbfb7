# SPDX-License-Identifier: Apache-2.0 OR MIT
# Processes that kvm-host starts, and files it leaves, never outlive it. Sourced by kvm-host.
# shellcheck shell=bash

children=() leftovers=()

# beside COMMAND...: run it in a process group of its own, beside this shell. It ends with this shell.
beside() {
	setpriv --pdeathsig TERM setsid "$@" <&0 &
	children+=($!)
}

# attended COMMAND...: run it and wait for it. Whatever takes long goes through here: a trap runs when `wait` is
# interrupted, but not before a command in the foreground has ended.
attended() {
	beside "$@"
	wait $!
}

# "${tied[@]}" COMMAND...: COMMAND, which is killed when this shell ends, be it by SIGKILL, and is not started if the shell
# ended before setpriv had asked for that.
# shellcheck disable=SC2016,SC2034 # for sh; used by qemu.sh
tied=(setpriv --pdeathsig KILL sh -c '[ "$PPID" = "$0" ] && exec "$@"' "$$")

# remove_at_end PATH: at this shell's end, be it by SIGKILL. Then a process removes it that waits for the end of a pipe:
# this shell and all it started hold the other end.
remove_at_end() {
	leftovers+=("$1")
	local end
	# shellcheck disable=SC2016,SC2034 # for perl; the descriptor only stays open
	exec {end}> >(exec setsid perl -e '1 while sysread STDIN, $_, 1; exec qw(rm -rf --), @ARGV' "$1" >/dev/null 2>&1)
}

# Every way out comes by here.
# shellcheck disable=SC2317 # called by the trap
clean_up() {
	local child
	trap '' HUP INT TERM # a second one must not stop this; rm inherits it
	exec 2>/dev/null # all has been said; the shell would add "Killed"
	for child in "${children[@]}"; do
		while is_child "$child" && { kill -KILL -- "-$child" || kill -KILL "$child"; }; do sleep 0.01; done
	done
	rm -rf "${leftovers[@]}"
}
# The number of a child that has ended may be someone else's by now.
is_child() {
	local stat
	{ read -r stat <"/proc/$1/stat"; } 2>/dev/null &&
		[[ ${stat##*) } =~ ^[^Z]\ $$\  ]]
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
