# SPDX-License-Identifier: Apache-2.0 OR MIT
# The kernel and the initramfs of the machine inside QEMU, and QEMU itself where it is not installed. Sourced by
# kvm-host. All of it comes from Debian, unpacked below $tools and never installed.
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # cache, parts and such: set by kvm-host and cache.sh; qemu, initrd: for qemu.sh

# Loading order; 9pnet_virtio must be loaded before the file system is mounted.
debian_modules=(irqbypass ccp kvm kvm-amd netfs 9pnet 9pnet_virtio 9p)

# Set `qemu`, `busybox`, `kernel` and `initrd`; succeed if all four exist.
prepared() {
	have_qemu && have_busybox && have_kernel && have_initrd
}

prepare() {
	prepared && return
	mkdir -p "$tools"
	discard_damaged_parts
	have_qemu || with_lists "qemu-system-x86_64" fetch_qemu
	have_busybox || with_lists "busybox" fetch_busybox
	have_kernel || with_lists "a kernel with KVM" fetch_debian_kernel
	have_busybox && have_kernel && { have_initrd || make_initrd; }
	prepared || fail 2 "what was fetched into $tools does not work here; remove it and try again"
}

# The installed QEMU, else the fetched one. It is tried, since it also uses installed libraries, which may have been removed
# after it was fetched.
have_qemu() {
	local libraries
	qemu=(qemu-system-x86_64)
	! type -P qemu-system-x86_64 >/dev/null || return 0
	newest_part qemu- || return 1
	libraries=$(find "$part" -name '*.so*' -printf '%h\n' | sort -u | tr '\n' ':')
	qemu=(env "LD_LIBRARY_PATH=${libraries%:}" "QEMU_MODULE_DIR=$part/usr/lib/x86_64-linux-gnu/qemu"
		"$part/usr/bin/qemu-system-x86_64" -L "$part/usr/share/qemu" -L "$part/usr/share/seabios")
	"${qemu[@]}" --version >/dev/null 2>&1
}

# QEMU with the libraries that are not installed here. The list of packages is computed as if no QEMU package were installed:
# an installed newer qemu-utils, for example, would conflict, but nothing is installed here.
fetch_qemu() {
	local w packages
	open_workshop
	w=$workshop/qemu
	awk 'BEGIN { RS = ""; ORS = "\n\n" } !/(^|\n)(Package|Source): (qemu|ipxe-qemu|seabios)/' \
		/var/lib/dpkg/status >"$workshop/status"
	private_apt apt-get -o Dir::State::status="$workshop/status" install --no-install-recommends --print-uris \
		qemu-system-x86 >"$workshop/plan" 2>>"$apt_log" || return 1
	mapfile -t packages < <(sed -nE "s/^'[^']*' ([^_]+)_([^_]+)_.*/\1=\2/p" "$workshop/plan" | sed 's/%3a/:/g' | tac)
	unpack "$w" "${packages[@]}" || return 1
	rm -rf "${w:?}"/usr/share/{doc,man,locale,bash-completion} "${w:?}"/{etc,var}
	# Remove links whose target is outside of this tree.
	find "$w" -xtype l -delete
	install_part "$w" "qemu-$(sed -nE "s/.* qemu-system-x86_(.*)_[^_]*\.deb .*/\1/p" "$workshop/plan" | sed 's/%3a/-/')"
}

have_busybox() {
	newest_part busybox- || return 1
	busybox=$part/busybox
}

fetch_busybox() {
	local w
	open_workshop
	w=$workshop/busybox
	unpack "$w" busybox-static || return 1
	mkdir "$workshop/made"
	mv "$w"/bin/busybox "$workshop/made" 2>/dev/null || mv "$w"/usr/bin/busybox "$workshop/made"
	install_part "$workshop/made" busybox-static
}

# The small kernel if one was built, else Debian's.
have_kernel() {
	newest_part "small-$(config_hash)-" || newest_part debian- || return 1
	kernel=$part
}

fetch_debian_kernel() {
	local w m file order=10
	open_workshop
	w=$workshop/linux
	have_busybox
	newest '^linux-image-6\.12\.[0-9]+[^-]*-amd64$' linux-image-6.12 || return 1
	unpack "$w" "$package" || return 1
	mkdir -p "$w/made/modules"
	mv "$w"/boot/vmlinuz-* "$w/made/kernel" || return 1
	for m in "${debian_modules[@]}"; do
		file=$(find "$w" -name "$m.ko*" -print -quit)
		case $file in
		*.ko) cat "$file" ;;
		*.xz) "$busybox" xzcat "$file" ;;
		*) fail 2 "$package has no module $m" ;;
		esac >"$w/made/modules/$order-$m.ko" || return 1
		order=$((order + 1))
	done
	install_part "$w/made" "debian-${package#linux-image-}"
}

# The initramfs is made again when one of its files changes.
have_initrd() {
	initrd=$tools/initrd-$(sha256sum "$parts/init" "${busybox%/*}/SHA256SUMS" "$kernel/SHA256SUMS" | cut -d' ' -f1 |
		sha256sum | cut -c1-12)
	intact "$initrd" || return 1
	initrd=$initrd/initrd
}

make_initrd() {
	local w
	open_workshop
	w=$workshop/initrd
	mkdir -p "$w"/{bin,proc,sys,dev,host,run,modules} "$workshop/made"
	cp "$busybox" "$w/bin/busybox"
	cp "$parts/init" "$w/init"
	chmod +x "$w/init"
	[[ ! -d $kernel/modules ]] || cp "$kernel"/modules/* "$w/modules"
	(cd "$w" && find . | "$busybox" cpio -o -H newc -R 0:0 2>/dev/null) >"$workshop/made/initrd"
	find "$tools" -maxdepth 1 -name 'initrd-*' -mtime +1 -exec rm -rf {} +
	install_part "$workshop/made" "${initrd##*/}"
}
