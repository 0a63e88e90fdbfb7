# The small kernel for the machine inside QEMU. Sourced by kvm-host.
# shellcheck shell=bash
# shellcheck disable=SC2154 # cache, parts, package: set by kvm-host and fetch.sh

# A kernel's name carries what it was made from, so that a changed l1.config
# never meets an old kernel.
config_hash() {
	sha256sum <"$parts/l1.config" | cut -c1-12
}

# Succeed and set `kernel` if a small kernel of the present configuration is there.
have_small_kernel() {
	local k
	kernel=
	for k in "$cache"/small-*-"$(config_hash)"; do
		[[ ! -e $k/kernel ]] || kernel=$k
	done
	[[ -n $kernel ]]
}

build_small_kernel() {
	local w source version log count begun seconds
	if have_small_kernel; then
		say "already built: $kernel"
		return
	fi
	need gcc gcc
	need make make
	need flex flex
	need bison bison
	need bc bc
	need xz xz-utils
	[[ -e /usr/include/libelf.h ]] || need libelf.h libelf-dev
	newest '^linux-source-6\.12$' linux-source-6.12
	open_workshop
	w=$workshop
	log=$w/log
	begun=$SECONDS
	unpack "$package" "$w"
	# The AMD graphics headers are a quarter of the tree.
	say "unpacking the source"
	tar -xf "$w"/usr/src/linux-source-6.12.tar.xz -C "$w" --exclude='*/drivers/gpu/drm/amd/include/*'
	source=$w/linux-source-6.12
	version=$(make -s -C "$source" kernelversion)
	make -s -C "$source" allnoconfig KCONFIG_ALLCONFIG="$parts/l1.config" >"$log" 2>&1 ||
		fail 2 "could not configure the kernel: $(tail -n1 "$log")"
	check_config "$source/.config"

	nice make -C "$source" -j"$(nproc)" vmlinux >"$log" 2>&1 &
	children+=($!)
	while is_child $!; do
		sleep 1
		seconds=$((SECONDS - begun))
		((seconds % 15 == 0)) || continue
		count=$(grep -c '^ *CC ' "$log") || true
		say "building Linux $version: $count files compiled, $seconds s"
	done
	wait $! || {
		cp "$log" "$cache/build.log"
		fail 2 "the kernel did not build; see $cache/build.log"
	}
	kernel=$cache/small-$version-$(config_hash)
	mkdir "$w/made"
	objcopy -S "$source/vmlinux" "$w/made/kernel"
	cp "$source/.config" "$w/made/config"
	rm -rf "$kernel"
	mv "$w/made" "$kernel"
	rm -rf "$w"
	say "built $kernel in $((SECONDS - begun)) s"
}

# Kconfig drops what it cannot satisfy without a word.
check_config() { # check_config FILE
	local want name
	while read -r want; do
		name=${want%%=*}
		case $want in
		CONFIG_*=n) ! grep -q "^$name=" "$1" || fail 2 "l1.config: $name stayed on" ;;
		CONFIG_*) grep -qx "$want" "$1" || fail 2 "l1.config: $want was not possible" ;;
		esac
	done <"$parts/l1.config"
}
