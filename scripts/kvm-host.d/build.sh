# SPDX-License-Identifier: Apache-2.0 OR MIT
# The small kernel for the machine inside QEMU. Sourced by kvm-host.
# shellcheck shell=bash
# shellcheck disable=SC2154 # cache, parts, package, workshop: set by kvm-host, cache.sh and apt.sh

# A kernel's name contains the hash of its configuration, so that an old kernel is
# not used with a changed l1.config.
config_hash() {
	grep -v '^# SPDX-License-Identifier: ' "$parts/l1.config" | sha256sum | cut -c1-12
}

require_build_tools() {
	local program missing=()
	for program in gcc ld make flex bison bc xz; do
		type -P $program >/dev/null || missing+=("$program")
	done
	[[ -e /usr/include/libelf.h ]] || missing+=(libelf.h)
	[[ ${#missing[@]} == 0 ]] ||
		fail 2 "missing for building a kernel: ${missing[*]}; scripts/setup --kernels installs them"
}

fetch_source() {
	open_workshop
	newest '^linux-source-6\.12$' linux-source-6.12 && unpack "$workshop/source" "$package"
}

build_small_kernel() {
	local w source version log count begun seconds make
	if newest_part "small-$(config_hash)-"; then
		say "already built: $part"
		return
	fi
	require_build_tools
	begun=$SECONDS
	with_lists "the kernel's source" fetch_source
	w=$workshop/source
	log=$workshop/log
	# The AMD graphics headers are a quarter of the tree.
	say "unpacking the source"
	attended tar -xf "$w"/usr/src/linux-source-6.12.tar.xz -C "$w" --exclude='*/drivers/gpu/drm/amd/include/*'
	source=$w/linux-source-6.12
	version=$(make -s -C "$source" kernelversion)
	make -s -C "$source" allnoconfig KCONFIG_ALLCONFIG="$parts/l1.config" >"$log" 2>&1 ||
		fail 2 "could not configure the kernel: $(tail -n1 "$log")"
	check_config "$source/.config"

	beside nice make -C "$source" -j"$(nproc)" vmlinux >"$log" 2>&1
	make=$!
	while is_child "$make"; do
		attended sleep 1
		seconds=$((SECONDS - begun))
		((seconds % 15 == 0)) || continue
		count=$(grep -c '^ *CC ' "$log") || true
		say "building Linux $version: $count files compiled, $seconds s"
	done
	wait "$make" || {
		cp "$log" "$cache/build.log"
		fail 2 "the kernel did not build; see $cache/build.log"
	}
	mkdir "$workshop/made"
	objcopy -S "$source/vmlinux" "$workshop/made/kernel"
	cp "$source/.config" "$workshop/made/config"
	install_part "$workshop/made" "small-$(config_hash)-$version"
	say "built $tools/small-$(config_hash)-$version in $((SECONDS - begun)) s"
}

# Kconfig drops options whose dependencies are missing without a message.
check_config() { # check_config FILE
	local want name
	while read -r want; do
		name=${want%%=*}
		case $want in
		CONFIG_*=n) ! grep -q "^$name=" "$1" || fail 2 "l1.config: $name could not be switched off" ;;
		CONFIG_*) grep -qx "$want" "$1" || fail 2 "l1.config: $want could not be set, as a dependency is missing" ;;
		esac
	done <"$parts/l1.config"
}
