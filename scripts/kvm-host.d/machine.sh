# SPDX-License-Identifier: Apache-2.0 OR MIT
# The machine inside QEMU: its options. Sourced by kvm-host.
#
# Reasons for its options (measured as processor time with QEMU 7.2 on two busy
# cores; "true" as the command takes 0.6 s in QEMU when the machine is restored, and
# 4.4 s when Debian's kernel boots, 1.1 s when the small one does):
#
#   q35, not microvm     microvm costs 0.4 s less, but has neither HPET nor ACPI
#                        timer. On a busy machine the kernel then fails to
#                        calibrate its clock, and hangs.
#   qboot, not SeaBIOS   0.1 s less; nothing here needs a BIOS.
#   one processor        A second one does not make a guest start sooner. Two guests
#                        at once take as much processor time in one machine with
#                        two (24 to 27 s) as in two machines with one (24 to 27 s),
#                        and QEMU before 8.1 can crash the former (see "hold" in
#                        init). So two commands at once get two machines.
#   the APIC timer       "noapictimer" saves 0.1 s, but on the HPET alone guests
#                        run at a third of their speed.
#   tsc_early_khz        See tsc_khz below.
#   icount               With --instructions: the machine's clock advances 1 ns for
#                        each instruction, and idle time is skipped. It also is the
#                        rate of its time stamp counter, 1 GHz.
#   the port "beat"      Once in several hundred runs QEMU's nested virtualization
#                        loses a timer interrupt, and the processor halts for
#                        ever. Any other interrupt wakes it, so there is one each
#                        second.
#   tb-size              Left at QEMU's default, 1 GiB allocated as it is used.
#   no vmgenid           qboot halts at the loader command that it needs. So
#                        restored machines get random bytes from "init".
#
# Times vary with the rate at which this machine executes instructions, not with the
# number of them: with other work on both cores, ten runs of one guest took 16 to 83 s,
# or 5.8 to 8.0 s of processor time; a fixed loop beside them took 15.5 to 18.1 ms of
# processor time, longest and shortest in the same runs.
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # cache, kernel, initrd, run: set by kvm-host, fetch.sh and qemu.sh; machine: for qemu.sh

# MiB for the machine: 6 GiB, or 3/4 of this machine's memory if that is less; whole 256 MiB, as a virtual machine's memory
# can change by a little, and each size has a state of its own.
machine_memory() {
	local all limit
	all=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
	limit=$(cat /sys/fs/cgroup/memory.max 2>/dev/null) || limit=max
	[[ $limit == max ]] || ((limit / 1048576 > all)) || all=$((limit / 1048576))
	all=$((all * 3 / 4 / 256 * 256))
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

# Set `machine`, the options of QEMU that are the same for a machine that boots and for one that is restored from its state.
machine_options() {
	local khz mitigations=''
	local -a accel=(-accel "tcg,thread=multi")
	if [[ -n $instructions ]]; then
		accel=(-accel "tcg,thread=single" -icount "shift=0,sleep=off")
		khz=1000000
	else
		tsc_khz
	fi
	# (The small kernel has no mitigations, and would warn about the option on the console.)
	[[ $kernel == */small-* ]] || mitigations=' mitigations=off'
	memory=${memory:-$(machine_memory)}
	machine=(
		-nodefaults -no-user-config -display none -no-reboot
		-M q35 -bios qboot.rom -smp "$cpus" -m "$memory"
		"${accel[@]}" -cpu "EPYC,+svm,+npt"
		-kernel "$kernel/kernel" -initrd "$initrd"
		-append "console=ttyS0 quiet panic=-1 oops=panic$mitigations tsc=reliable${khz:+ tsc_early_khz=$khz} no_timer_check random.trust_cpu=on"
		-fsdev "local,id=host,path=/,security_model=none,multidevs=remap"
		-device "virtio-9p-pci,fsdev=host,mount_tag=host"
		-device virtio-serial-pci
		-device "virtserialport,nr=1,name=in,chardev=in"
		-device "virtserialport,nr=2,name=out,chardev=out"
		-device "virtserialport,nr=3,name=err,chardev=err"
		-device "virtserialport,nr=4,name=beat,chardev=beat"
	)
}
