#!/usr/bin/env bash
# Proves that a fresh machine is enough: makes a bare Debian 12 in FOLDER, installs a compiler, cmake,
# ninja, make, python3 and git there, clones this repository's HEAD into it and runs the commands, by
# default `make quickstart` and `make test`. Prints how long each took.
#
#   sudo tests/fresh_machine.sh FOLDER [COMMAND ...]
#
# Needs root, debootstrap and about 8 GB. It reaches the network as this machine does: the system in
# FOLDER is given this machine's apt sources, apt and pip configuration, certificates and proxies.
# FOLDER stays, to look around in. Not part of `make test`.
set -euo pipefail
release=bookworm

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

[ $# -ge 1 ] || fail "usage: $0 FOLDER [COMMAND ...]"
folder=$1
shift
[ $# -gt 0 ] || set -- "make quickstart" "make test"
[ "$(id -u)" -eq 0 ] || fail "Expected to run as root, but this is $(id -un); try sudo."
command -v debootstrap > /dev/null || fail "Expected debootstrap; apt-get install debootstrap."
[ ! -e "$folder" ] || [ -z "$(ls -A "$folder")" ] || fail "Expected an empty folder, but $folder is not."
mkdir -p "$folder"
folder=$(realpath "$folder")
repository=$(realpath "$(dirname "$0")/..")

timings=()
timed() {
  local name=$1 start=$SECONDS status=0
  shift
  echo "== $name"
  "$@" || status=$?
  timings+=("$(printf '%6d s  %s' $((SECONDS - start)) "$name")")
  [ $status -eq 0 ] || fail "Expected exit status 0, but got $status: $name"
}

# Copies a file or folder of this machine, where it exists.
carry() {
  local path
  for path in "$@"; do
    [ -e "$path" ] || continue
    mkdir -p "$folder$(dirname "$path")"
    cp -rLT "$path" "$folder$path"
  done
}

make_system() {
  # "site release component" of every Debian package source of this machine.
  local sources mirror
  sources=$(apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2> /dev/null |
    awk -v release=$release '$2 == release || index($2, release "-") == 1' | sort -u || true)
  mirror=$(awk -v release=$release '$2 == release {print $1; exit}' <<< "$sources")
  debootstrap --variant=minbase $release "$folder" $mirror > "$folder.log" 2>&1 ||
    { tail -5 "$folder.log" >&2; return 1; }
  rm "$folder.log"
  [ -z "$sources" ] || sed 's/^/deb /' <<< "$sources" > "$folder/etc/apt/sources.list"
  grep -lE '^ *Acquire::' /etc/apt/apt.conf.d/* 2> /dev/null | while read -r file; do carry "$file"; done
  carry /etc/resolv.conf /etc/hosts /etc/pip.conf /root/.config/pip /root/.pip \
    /etc/ssl/certs /usr/local/share/ca-certificates
}

# Runs a command line in the new system, in the clone. The mounts end with the command.
inside() {
  local variables=()
  mapfile -t variables < <(env | grep -iE '^(https?_proxy|ftp_proxy|all_proxy|no_proxy|PIP_[A-Z_]*|SSL_CERT_[A-Z]*|[A-Z_]*CA_BUNDLE)=')
  unshare --mount --propagation private bash -c '
    set -e
    mount -t proc proc "$0/proc"
    mkdir -p "$0/dev/pts" "$0/dev/shm"
    mount -t devpts devpts "$0/dev/pts"
    mount -t tmpfs tmpfs "$0/dev/shm"
    exec chroot "$@"' "$folder" "$folder" \
    env -i HOME=/root TERM=dumb LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    DEBIAN_FRONTEND=noninteractive "${variables[@]}" \
    bash -c "cd /root/megatron.cpp 2> /dev/null || cd /root; $1" < /dev/null
}

timed "bare Debian 12" make_system
timed "compiler, cmake, ninja, make, python3, git" \
  inside "apt-get update -qq && apt-get install -y -qq --no-install-recommends g++ cmake ninja-build make python3 git > /dev/null"
timed "clone" git clone --quiet --no-hardlinks "$repository" "$folder/root/megatron.cpp"
for command in "$@"; do
  timed "$command" inside "$command"
done

echo
printf '%s\n' "${timings[@]}"
