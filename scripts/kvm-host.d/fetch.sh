# The kernel and the initramfs of the machine inside QEMU. Sourced by kvm-host.
#
# All of it comes from Debian, unpacked below $cache and never installed. A thing
# is there under its final name only when complete, so what exists can be trusted.
# shellcheck shell=bash
# shellcheck disable=SC2154 # cache, parts: set by kvm-host

# Loading order; 9pnet_virtio must be there before the file system asks for it.
debian_modules=(irqbypass ccp kvm kvm-amd netfs 9pnet 9pnet_virtio 9p)

need() { # need PROGRAM PACKAGE: have PROGRAM, installing PACKAGE if root may
	type -P "$1" >/dev/null && return
	local install="apt-get install -y --no-install-recommends $2"
	if [[ $EUID == 0 ]] && type -P apt-get >/dev/null; then
		say "$1 is missing: $install"
		DEBIAN_FRONTEND=noninteractive $install >&2 ||
			{ apt-get update >&2 && DEBIAN_FRONTEND=noninteractive $install >&2; } ||
			fail 2 "could not install $2"
		type -P "$1" >/dev/null && return
	fi
	fail 2 "$1 is missing; install it with: sudo $install"
}

# Apt with its own state: usable without root, and leaves the system's alone.
# The system's package lists will do if they know the package.
apt_lists=()
private_apt() { # private_apt PROGRAM ARGUMENT...
	local program=$1
	shift
	"$program" -qq -o Dir::Cache="$cache/apt/cache" -o APT::Sandbox::User=root "${apt_lists[@]}" "$@"
}

# newest PATTERN PREFIX: set `package` to the newest package there is to download
# whose name matches.
newest() {
	local try
	for try in system private; do
		package=$(private_apt apt-cache pkgnames "$2" | grep -E "$1" | sort -V | tail -n1) || package=
		if [[ -n $package ]] && private_apt apt-get download --print-uris "$package" >/dev/null 2>&1; then
			return
		fi
		[[ $try == system ]] || break
		mkdir -p "$cache/apt/lists/partial" "$cache/apt/cache/archives/partial"
		apt_lists=(-o "Dir::State::Lists=$cache/apt/lists")
		say "fetching package lists"
		private_apt apt-get update >&2 || break
	done
	fail 2 "apt has no package like $2 to download; add Debian's repositories (for the kernel, bookworm-security or newer)"
}

# unpack PACKAGE DIR: download and unpack it below DIR.
unpack() {
	local size progress=-qq
	size=$(private_apt apt-get download --print-uris "$1" | awk '{ print int($3 / 1e6 + 1) }')
	say "fetching $1 ($size MB)"
	[[ ! -t 2 ]] || progress=-q=0
	(cd "$2" && private_apt apt-get $progress download "$1") >&2 || fail 2 "could not download $1"
	dpkg-deb -x "$2"/*.deb "$2" || fail 2 "could not unpack $1"
	rm -f "$2"/*.deb
}

# Set `workshop` to a fresh directory on the cache's file system: things are made
# there and moved to their final name when complete.
open_workshop() {
	mkdir -p "$cache/tmp" "$cache/apt/cache/archives/partial"
	workshop=$(mktemp -d "$cache/tmp/XXXXXX")
	leftovers+=("$workshop")
}

# with_lock FUNCTION: two kvm-hosts starting at once must not both fetch.
with_lock() {
	local lock
	mkdir -p "$cache"
	exec {lock}>"$cache/lock"
	flock -n "$lock" || { say "waiting for another kvm-host's preparations"; flock "$lock"; }
	"$@"
	exec {lock}>&-
}

# Set `busybox`, `kernel` and `initrd`; succeed if all three are there.
prepared() {
	busybox=$cache/busybox
	have_small_kernel || have_debian_kernel
	# Remade when /init changes.
	initrd=$kernel/initrd-$(sha256sum <"$parts/init" | cut -c1-12)
	[[ -x $busybox && -n $kernel && -e $initrd ]]
}

prepare() {
	prepared && return
	[[ -x $busybox ]] || fetch_busybox
	[[ -n $kernel ]] || fetch_debian_kernel
	prepared || make_initrd
}

have_debian_kernel() {
	local k
	kernel=
	for k in "$cache"/debian-*; do [[ ! -e $k/kernel ]] || kernel=$k; done
	[[ -n $kernel ]]
}

fetch_busybox() {
	local w
	newest '^busybox-static$' busybox-static
	open_workshop
	w=$workshop
	unpack busybox-static "$w"
	mv "$w"/bin/busybox "$busybox" 2>/dev/null || mv "$w"/usr/bin/busybox "$busybox"
	rm -rf "$w"
}

fetch_debian_kernel() {
	local w m file order=10
	newest '^linux-image-6\.12\.[0-9]+[^-]*-amd64$' linux-image-6.12
	open_workshop
	w=$workshop
	unpack "$package" "$w"
	mkdir -p "$w/made/modules"
	mv "$w"/boot/vmlinuz-* "$w/made/kernel"
	for m in "${debian_modules[@]}"; do
		file=$(find "$w" -name "$m.ko*" -print -quit)
		case $file in
		*.ko) cat "$file" ;;
		*.xz) "$busybox" xzcat "$file" ;;
		*) fail 2 "$package has no module $m" ;;
		esac >"$w/made/modules/$order-$m.ko"
		order=$((order + 1))
	done
	mv "$w/made" "$cache/debian-${package#linux-image-}"
	rm -rf "$w"
}

make_initrd() {
	local w
	open_workshop
	w=$workshop
	mkdir -p "$w/root"/{bin,proc,sys,dev,host,run,modules}
	cp "$busybox" "$w/root/bin/busybox"
	cp "$parts/init" "$w/root/init"
	chmod +x "$w/root/init"
	[[ ! -d $kernel/modules ]] || cp "$kernel"/modules/* "$w/root/modules"
	(cd "$w/root" && find . | "$busybox" cpio -o -H newc -R 0:0 >"$w/initrd" 2>/dev/null)
	rm -f "$kernel"/initrd-*
	mv "$w/initrd" "$initrd"
	rm -rf "$w"
}
