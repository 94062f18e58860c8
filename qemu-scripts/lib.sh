# shellcheck shell=bash
#
# What the lab scripts share: where things are, how they speak, what they need installed.
# Sourced by every script in this directory, on the machine and inside an L1 guest; never run by itself.
# Trusts: this checkout, the packages of the machine's own Debian mirror, and DOORBELL_LAB when it is set.

set -Eeuo pipefail
shopt -s inherit_errexit

# Not everybody has these on PATH, and mke2fs, depmod and nft are there.
PATH=$PATH:/usr/sbin:/sbin

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
lab=${DOORBELL_LAB:-$root/target/lab}
# shellcheck disable=SC2034 # read by the scripts that source this file
scripts=$root/qemu-scripts

# The exit status of a run that could not be carried out (no guest, no image), as sysexits.h has it.
# shellcheck disable=SC2034
readonly EX_UNAVAILABLE=69
readonly EX_USAGE=64

log() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
}

die() {
  log "$*"
  exit 1
}

usage_error() {
  log "$*; see ${0##*/} --help"
  exit "$EX_USAGE"
}

# need_value OPTION COUNT: COUNT words are left, the option itself among them.
need_value() {
  [ "$2" -ge 2 ] || usage_error "$1 needs a value"
}

# A long step says what it is, and how long it took; its output is shown on a terminal, else only when it fails.
# Not to be called in a condition, like everything here that is more than one command: bash then ignores failures.
run_step() {
  local what=$1 start=$SECONDS
  shift
  log "$what"
  if [ -t 2 ]; then
    ("$@") >&2
  else
    step_output=$(mktemp)
    step_level=$BASH_SUBSHELL
    ("$@") >"$step_output" 2>&1
    rm -f "$step_output"
    step_output=''
  fi
  log "$what: done in $((SECONDS - start)) s"
}

# Called by bash where a command fails that nothing checks, before the script ends for it.
show_failed_step() {
  [ -n "$step_output" ] && [ "$BASH_SUBSHELL" -eq "$step_level" ] || return 0
  tail -n 40 "$step_output" >&2
  rm -f "$step_output"
  step_output=''
  log "the step above failed, its last lines are shown"
}
step_output='' step_level=0
trap show_failed_step ERR

have() {
  command -v "$1" >/dev/null 2>&1
}

# with_lock NAME COMMAND…: one of these at a time on this lab directory; the lock ends with the command.
with_lock() {
  local name=$1
  shift
  mkdir -p "$lab"
  (
    flock 9
    "$@" 9>&-
  ) 9>"$lab/$name.lock"
}

# make_disk FILE SIZE LABEL: an empty ext4 disk, sparse, complete or not there.
make_disk() {
  truncate -s "$2" "$1.partial"
  mke2fs -q -F -t ext4 -m 0 -L "$3" "$1.partial"
  mv "$1.partial" "$1"
}

# start_child LOG COMMAND…: in the background; it dies with this script even when the script is killed.
start_child() {
  local output=$1
  shift
  setpriv --pdeathsig KILL -- "$@" </dev/null >"$output" 2>&1 &
}

# stop_child PID: asks it to end, and insists after five seconds.
stop_child() {
  local tries
  [ -n "$1" ] || return 0
  kill "$1" 2>/dev/null || true
  for ((tries = 0; tries < 100; tries++)); do
    kill -0 "$1" 2>/dev/null || break
    sleep 0.05
  done
  kill -KILL "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}

# For the traps of TERM and INT: a second signal would cut the clean-up of the EXIT trap short.
end_with() {
  trap '' TERM INT
  exit "$1"
}

# manifest_value KEY: the version prepare recorded, or nothing.
manifest_value() {
  [ ! -e "$lab/MANIFEST" ] || awk -v key="$1" '$1 == key { print $2 }' "$lab/MANIFEST"
}

# The oldest Rust the workspace builds with, from the one place that says it.
wanted_rust() {
  awk -F '"' '
    /^\[/ { inside = ($0 == "[workspace.package]") }
    inside && $1 ~ /^rust-version[ \t]*=/ { print $2; exit }
  ' "$root/Cargo.toml"
}

need_rust() {
  local wanted found
  wanted=$(wanted_rust) || true
  [ -n "$wanted" ] || die "$root/Cargo.toml: no rust-version in [workspace.package]; restore it"
  if ! have rustc || ! have cargo; then
    die "no rustc and cargo on PATH, $wanted or newer is needed; install it from https://rustup.rs and open a new shell"
  fi
  found=$(rustc --version | awk '{ print $2 }')
  if [ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1)" != "$wanted" ]; then
    have rustup || die "rustc $found is too old, $wanted or newer is needed; install it from https://rustup.rs and open a new shell"
    die "rustc $found is too old, $wanted or newer is needed; run: rustup update stable"
  fi
}

missing_packages() {
  dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null |
    awk '$2 == "installed" { print $1 }' | sort -u |
    comm -13 - <(printf '%s\n' "$@" | sort -u)
}

apt_update() {
  run_step "updating the package lists" apt-get -q update
}

apt_lists_present() {
  compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null
}

# need_packages NAME…: installs what is missing and touches nothing else.
need_packages() {
  local missing
  mapfile -t missing < <(missing_packages "$@")
  [ "${#missing[@]}" -gt 0 ] || return 0
  local install=(apt-get install -y --no-install-recommends "${missing[@]}")
  [ "$(id -u)" -eq 0 ] || die "packages are missing and this is not root; run: sudo ${install[*]}"
  have apt-get || die "packages are missing and there is no apt-get: ${missing[*]}; install them by hand"
  apt_lists_present || apt_update
  run_step "installing ${missing[*]}" apt_install_or_update "${missing[@]}"
}

apt_quiet() {
  DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=600 "$@"
}

# Lists older than the mirror name files that are gone; one update cures that.
apt_install_or_update() {
  apt_quiet install "$@" || { apt-get -q update && apt_quiet install "$@"; }
}
