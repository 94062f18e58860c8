# shellcheck shell=bash
#
# How an initramfs is put together: a tree is staged, packed as one cpio, and several of them concatenated.
# Sourced by build-image, build-debian and nested; brings lib.sh with it.
# Trusts: what prepare unpacked into the lab directory, and the shared libraries of this machine.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# with_stage FUNCTION ARGUMENT…: runs the function with a fresh staging tree as first argument, and removes the tree.
with_stage() (
  what=$1
  stage=$(mktemp -d "$lab/stage.XXXXXX")
  trap 'rm -rf "$stage"' EXIT
  chmod 755 "$stage"
  shift
  "$what" "$stage" "$@"
)

# pack_tree TREE FILE [FILTER…]: one cpio, owned by root, complete or not there; FILTER compresses it.
pack_tree() {
  local tree=$1 file=$2
  shift 2
  [ $# -gt 0 ] || set -- cat
  (
    cd "$tree"
    find . -print0 | LC_ALL=C sort -z | cpio --null --create --format=newc --owner=0:0 --quiet
  ) | "$@" >"$file.partial"
  mv "$file.partial" "$file"
}

stage_busybox() {
  local stage=$1 applet
  mkdir -p "$stage"/{bin,sbin,dev,proc,sys,run,tmp,root,etc,lib,usr/bin,usr/sbin,usr/lib,var/lib}
  cp "$lab/busybox/bin/busybox" "$stage/bin/busybox"
  "$lab/busybox/bin/busybox" --list | while read -r applet; do
    [ "$applet" = busybox ] || ln -s busybox "$stage/bin/$applet"
  done
  # The kernel calls the first by this name at boot, and the second when a module is asked for.
  ln -s bin/busybox "$stage/init"
  ln -s ../bin/busybox "$stage/sbin/modprobe"
  ln -s ../../bin/busybox "$stage/usr/bin/env"
}

# stage_modules STAGE NAME…: the modules of the lab's kernel and all they depend on, where modprobe looks for them.
stage_modules() {
  stage_modules_of "$lab/kernel" "$(manifest_value kernel)" "$@"
}

# stage_modules_of KERNEL RELEASE STAGE NAME…: the same from another unpacked kernel package.
stage_modules_of() {
  local kernel=$1 release=$2 stage=$3 tree path source
  shift 3
  tree=lib/modules/$release
  # Later kernel packages have everything below usr.
  source=$kernel/$tree
  [ -d "$source" ] || source=$kernel/usr/$tree
  [ -e "$source/modules.dep" ] || depmod -b "${source%"/$tree"}" "$release"
  module_closure "$source" "$@" | while read -r path; do
    mkdir -p "$stage/$tree/${path%/*}"
    cp "$source/$path" "$stage/$tree/$path"
    # Later kernel packages compress their modules, and busybox has no decompressor for them.
    case $path in *.xz) xz -d "$stage/$tree/$path" ;; esac
  done
  cp "$source"/modules.{order,builtin,builtin.modinfo} "$stage/$tree/"
  depmod -b "$stage" "$release"
}

# Prints the file of every named module and of those it needs; a module that is built in has none.
module_closure() {
  local directory=$1
  shift
  awk -v wanted="$*" '
    function name_of(path) { sub(/.*\//, "", path); sub(/\.ko.*/, "", path); gsub(/-/, "_", path); return path }
    FILENAME ~ /modules\.builtin$/ { builtin[name_of($1)] = 1; next }
    { sub(/:/, "", $1); file = $1; of[name_of(file)] = file; $1 = ""; needs[file] = $0 }
    END {
      count = split(wanted, names, " ")
      for (i = 1; i <= count; i++) {
        name = names[i]; gsub(/-/, "_", name)
        if (name in builtin) continue
        if (!(name in of)) { print "no module " name " in this kernel" > "/dev/stderr"; exit 1 }
        take[of[name]] = 1
        n = split(needs[of[name]], more, " ")
        for (j = 1; j <= n; j++) take[more[j]] = 1
      }
      for (file in take) print file
    }
  ' "$directory/modules.builtin" "$directory/modules.dep"
}

# stage_program STAGE FILE PLACE: a program at PLACE in the tree, with the shared libraries it names.
stage_program() {
  local stage=$1 file=$2 place=$3 library
  mkdir -p "$stage/${place%/*}"
  cp -L "$file" "$stage/$place"
  shared_libraries "$file" | while read -r library; do
    [ -e "$stage$library" ] && continue
    mkdir -p "$stage${library%/*}"
    cp -L "$library" "$stage$library"
  done
}

check_static() {
  [ -x "$1" ] || die "$1: no program there; build the agent first"
  [ -z "$(shared_libraries "$1")" ] ||
    die "$1: not a static program; build it with RUSTFLAGS='-C target-feature=+crt-static'"
}

# A static program has none; ldd fails on it, and that is no fault.
shared_libraries() {
  { ldd "$1" 2>/dev/null || true; } | awk '
    /not found/ { print $1 ": not found" > "/dev/stderr"; exit 1 }
    $2 == "=>" && $3 ~ /^\// { print $3; next }
    $1 ~ /^\// { print $1 }
  '
}

# cached_part NAME INPUT…: prints the file of the cpio that pack_NAME makes, made once for the same inputs.
cached_part() {
  local name=$1 file
  shift
  mkdir -p "$lab/cache"
  file=$lab/cache/$name-$(key_of "$@").cpio
  [ -e "$file" ] || with_lock "cache-$name" make_part "$name" "$file"
  printf '%s\n' "$file"
}

make_part() {
  [ ! -e "$2" ] || return 0
  find "$lab/cache" -name "$1-*" -mmin +60 -delete
  run_step "packing the $1 part of the image" with_stage "pack_$1" "$2"
}

# The key of a cached part: the versions of the lab and the bytes that went into it.
key_of() {
  { cat "$lab/MANIFEST" && find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 cat; } | sha256sum | cut -c 1-16
}
