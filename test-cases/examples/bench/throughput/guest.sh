#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# PID 1 of the guests whose devices are measured: requests of 1 MiB to a disk or to a file of a shared folder, past the guest's
# page cache. A line before and after each row; the times are taken outside. "mib" comes from the kernel's command line.
# shellcheck shell=dash disable=SC2154 # mib: see above

copy() { # NAME ARGUMENT...: arguments of dd
	name=$1
	shift
	echo "begin $name"
	if /bin/busybox dd bs=1M "count=$mib" conv=notrunc "$@" 2>/tmp/errors; then
		echo "end $name"
	else
		/bin/busybox cat /tmp/errors
	fi
}

/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox insmod /virtio_blk.ko.xz
if [ -b /dev/vda ]; then
	copy blk-read if=/dev/vda of=/dev/null iflag=direct
	copy blk-write if=/dev/zero of=/dev/vda oflag=direct
fi
/bin/busybox mkdir /tmp/share
if /bin/busybox mount -t virtiofs share /tmp/share 2>/tmp/errors; then
	copy fs-read if=/tmp/share/file of=/dev/null iflag=direct
	copy fs-write if=/dev/zero of=/tmp/share/file oflag=direct
fi
echo "rows complete"
# The end of PID 1 is a panic, which has the guest's end in the log.
/bin/busybox sleep 1000
