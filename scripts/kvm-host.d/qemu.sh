# SPDX-License-Identifier: Apache-2.0 OR MIT
# Run one command on a KVM host inside QEMU. Sourced by kvm-host.
#
# Reasons for its options (measured as processor time with QEMU 7.2 on two busy
# cores; "true" as the command takes 1.1 s with the small kernel, 4 s with
# Debian's):
#
#   q35, not microvm     microvm costs 0.4 s less, but has neither HPET nor ACPI
#                        timer. On a busy machine the kernel then fails to
#                        calibrate its clock, and hangs.
#   qboot, not SeaBIOS   0.1 s less; nothing here needs a BIOS.
#   one processor        A second one does not make guests start sooner, and costs
#                        30 to 70 % more processor time.
#   the APIC timer       "noapictimer" saves 0.1 s, but on the HPET alone guests
#                        run at a third of their speed.
#   tsc_early_khz        See tsc_khz below.
#   the port "beat"      Once in several hundred runs QEMU's nested virtualization
#                        loses a timer interrupt, and the processor halts for
#                        ever. Any other interrupt wakes it, so there is one each
#                        second.
#   tb-size              Left at QEMU's default, 1 GiB allocated as it is used.
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
	echo "ulimit -n 65536"
	printf 'cd %s|| exit 126\n' "$(quoted "$PWD")"
	printf 'exec %s env -i ' $busybox
	for v in "${env[@]}"; do quoted "$v"; done
	# env would treat a command with a "=" as a variable.
	[[ $1 != *=* ]] || printf "%s sh -c 'exec \"\$0\" \"\$@\"' " $busybox
	for v in "$@"; do quoted "$v"; done
	echo
}

machine_memory() { # MiB for the machine: 6 GiB, or 3/4 of this machine's memory if that is less
	local all limit
	all=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
	limit=$(cat /sys/fs/cgroup/memory.max 2>/dev/null) || limit=max
	[[ $limit == max ]] || ((limit / 1048576 > all)) || all=$((limit / 1048576))
	all=$((all * 3 / 4))
	echo $((all < 6144 ? all : 6144))
}

# The rate of this machine's time stamp counter, which the machine inside QEMU reads as
# its own. It is passed on the command line, since on a busy machine the kernel's own
# calibration fails, or gives a fifth of the true value. Empty if it cannot be found.
tsc_khz() { # set `khz`
	local boot
	boot=$(</proc/sys/kernel/random/boot_id)
	{ read -r khz <"$cache/tsc-$boot"; } 2>/dev/null && return
	measure_tsc && khz=$("$run/tsc") || khz=$(reported_tsc) || khz=
	rm -f "$cache"/tsc-*
	echo "$khz" >"$cache/tsc-$boot"
}

measure_tsc() { # needs a C compiler, as the build of copra does
	attended cc -O -x c -o "$run/tsc" - <<-'EOF' 2>/dev/null
		#include <stdio.h>
		#include <time.h>
		#include <x86intrin.h>
		static long long now(void)
		{
			struct timespec t;
			clock_gettime(CLOCK_MONOTONIC, &t);
			return t.tv_sec * 1000000000LL + t.tv_nsec;
		}
		/* Both clocks at once: the reading of many that took the least time. */
		static void read_both(long long *ns, unsigned long long *tsc)
		{
			unsigned long long least = -1ULL;
			for (int i = 0; i < 1000; i++) {
				unsigned long long a = __rdtsc();
				long long n = now();
				unsigned long long took = __rdtsc() - a;
				if (took < least) {
					least = took;
					*ns = n;
					*tsc = a + took / 2;
				}
			}
		}
		int main(void)
		{
			struct timespec nap = { 0, 100000000 };
			long long n0, n1;
			unsigned long long t0, t1;
			read_both(&n0, &t0);
			nanosleep(&nap, 0);
			read_both(&n1, &t1);
			printf("%.0f\n", (double)(t1 - t0) * 1e6 / (n1 - n0));
			return 0;
		}
	EOF
}

reported_tsc() { # what /proc/cpuinfo says, where that is not the present clock rate
	grep -qw constant_tsc /proc/cpuinfo && ! grep -qw aperfmperf /proc/cpuinfo &&
		[[ ! -e /sys/devices/system/cpu/cpufreq/policy0 ]] || return 1
	awk -F: '/^cpu MHz/ { printf "%.0f\n", $2 * 1000; exit }' /proc/cpuinfo
}

# The directory of one run; its name is put on a kernel command line. It is created after the process that removes it, so
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
	local nonce in out err out_pid err_pid ended=0 mitigations='' khz stops=''
	type -P perl >/dev/null || fail 2 "perl is missing; install perl-base"
	open_cache
	make_run_directory

	# A process of its own, as QEMU would make our standard input non-blocking.
	[[ ${COPRA_STDIN_STOPS-} != 1 ]] || stops=$$
	exec {in}< <(exec "${tied[@]}" "$parts/feed" "$run/started" $stops)
	children+=($!)

	prepared || with_lock prepare
	write_command "$@" >"$run/command"
	nonce=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
	echo "$nonce" >"$run/nonce"
	tsc_khz

	# Only QEMU has the writing ends open, so they are closed whenever it ends.
	exec {out}> >(exec {in}<&- && exec "$parts/relay" out "$nonce" "$run/status" "$run/started")
	out_pid=$!
	exec {err}> >(exec {in}<&- {out}>&- && exec "$parts/relay" err "$nonce" "$run/status.err" >&2)
	err_pid=$!
	mkfifo "$run/beat.in" "$run/beat.out"
	"${tied[@]}" perl -e '$| = 1; sleep 1 while print "."' \
		{out}>&- {err}>&- {in}<&- <>"$run/beat.in" >&0 2>/dev/null &
	children+=($!)
	disown
	# (The small kernel has no mitigations, and would warn about the option on the console.)
	[[ $kernel == */small-* ]] || mitigations=' mitigations=off'
	local -a options=(
		-nodefaults -no-user-config -display none -no-reboot
		-M q35 -bios qboot.rom -smp "$cpus" -m "${memory:-$(machine_memory)}"
		-accel "tcg,thread=multi" -cpu "EPYC,+svm,+npt"
		-kernel "$kernel/kernel" -initrd "$initrd"
		-append "console=ttyS0 quiet panic=-1 oops=panic$mitigations tsc=reliable${khz:+ tsc_early_khz=$khz} no_timer_check random.trust_cpu=on kvm_host.run=$run"
		-serial "file:$run/console"
		-fsdev "local,id=host,path=/,security_model=none,multidevs=remap"
		-device "virtio-9p-pci,fsdev=host,mount_tag=host"
		-device virtio-serial-pci
		-add-fd "fd=$out,set=1" -add-fd "fd=$err,set=2"
		-chardev "stdio,id=in,signal=off"
		# append: the set's files are pipes, which cannot be truncated
		-chardev "file,id=out,path=/dev/fdset/1,append=on"
		-chardev "file,id=err,path=/dev/fdset/2,append=on"
		-device "virtserialport,nr=1,name=in,chardev=in"
		-device "virtserialport,nr=2,name=out,chardev=out"
		-device "virtserialport,nr=3,name=err,chardev=err"
		-chardev "pipe,id=beat,path=$run/beat"
		-device "virtserialport,nr=4,name=beat,chardev=beat"
	)
	verbose "kernel $kernel; log $run/console until the end"
	"${tied[@]}" "${qemu[@]}" "${options[@]}" <&"$in" >"$run/qemu" 2>&1 &
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
	case $ended in
	4) fail 70 "the machine inside QEMU did not start within three minutes; see $cache/failed.log" ;;
	*) fail 70 "the machine inside QEMU ended unexpectedly; see $cache/failed.log" ;;
	esac
}
