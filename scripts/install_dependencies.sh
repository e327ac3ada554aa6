#!/usr/bin/env bash
# Installs what the build needs and this machine lacks: the Debian packages of debian-packages.txt, and
# libtorch (from the pinned wheel, into .venv) unless TORCH_ROOT or CMAKE_PREFIX_PATH names one.
# A second run changes nothing.
#
#   ASSUME_YES=1             do not ask before apt-get
#   SKIP_DEBIAN_PACKAGES=1   the packages came some other way: do not look for them
#   PYTHON=python3.12        the interpreter that makes .venv (3.10 or newer)
#   MEGATRON_CUDA=1          also the wheels that a GPU build needs to run (some 3 GB)
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

install_debian_packages() {
  local wanted missing=() package status runner=() answer
  mapfile -t wanted < <(sed -e 's/#.*//' -e '/^[[:space:]]*$/d' scripts/debian-packages.txt)
  if ! command -v dpkg-query > /dev/null; then
    fail "Expected a Debian system (dpkg), but found none. Install what these packages hold:" \
      "${wanted[*]}; then run again with SKIP_DEBIAN_PACKAGES=1."
  fi
  for package in "${wanted[@]}"; do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2> /dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0

  if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo > /dev/null && { [ -t 0 ] || sudo -n true 2> /dev/null; }; then
      runner=(sudo)
    else
      fail "Expected ${#missing[@]} Debian packages, but they are missing and this user may not install" \
        "them. Ask an administrator to run:"$'\n'"  apt-get install --no-install-recommends ${missing[*]}"
    fi
  fi
  echo "Debian packages to install: ${missing[*]}"
  if [ -t 0 ] && [ -z "${ASSUME_YES:-}" ]; then
    read -r -p "Install them with apt-get? [Y/n] " answer
    case "$answer" in
      [nN]*) fail "Nothing installed. The command is: apt-get install --no-install-recommends ${missing[*]}" ;;
    esac
  fi
  "${runner[@]}" apt-get update -qq || echo "apt-get update failed; trying with the lists that are here" >&2
  "${runner[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null ||
    fail "Expected apt-get to install ${missing[*]}, but it failed; its last lines are above."
}

# Prints the libtorch folder that the caller named, if any.
given_libtorch() {
  local folder
  local IFS=':;'
  for folder in ${TORCH_ROOT:-} ${CMAKE_PREFIX_PATH:-}; do
    if [ -f "$folder/include/ATen/ATen.h" ]; then
      echo "$folder"
      return
    fi
  done
}

# The loader may find CUDA elsewhere on this machine and hide that the environment lacks it.
check_libtorch() {
  local library here name path
  library=$(echo .venv/lib/python3*/site-packages/torch/lib/libtorch_cpu.so)
  [ -f "$library" ] || fail "Expected $library, but pip did not install it; remove .venv and run again."
  here=$(realpath .venv)
  while read -r name _ path _; do
    case "$name" in libcu* | libc10* | libtorch*) ;; *) continue ;; esac
    case "$(realpath -q "$path" || true)" in
      "$here"/*) ;;
      *) fail "Expected $name of libtorch_cpu.so from .venv, but the loader finds '$path';" \
        "remove .venv and run again, without LD_LIBRARY_PATH." ;;
    esac
  done < <(ldd "$library")
}

install_libtorch() {
  local requirements=scripts/libtorch-requirements.txt stamp=.venv/.libtorch-requirements
  local python=${PYTHON:-python3}
  if ! cmp -s "$requirements" "$stamp"; then
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2> /dev/null ||
      fail "Expected Python 3.10 or newer to fetch the libtorch wheel, but '$python' is" \
        "$("$python" --version 2>&1 || true); name another with PYTHON=/path/to/python3."
    [ -x .venv/bin/pip ] || "$python" -m venv .venv ||
      fail "Expected '$python -m venv .venv' to work, but it failed; install python3-venv."
    echo "Installing libtorch into .venv (about 1.3 GB)"
    # Its Python parts are never run, so they are not compiled either.
    .venv/bin/pip install --quiet --no-compile --no-deps -r "$requirements" ||
      fail "Expected pip to install $(grep -v '^#' $requirements | tr '\n' ' '), but it failed; its last" \
        "lines are above. A libtorch >= 2.11 unpacked by hand works too: TORCH_ROOT=/path/to/libtorch."
    check_libtorch
    cp "$requirements" "$stamp"
  fi
  if [ -n "${MEGATRON_CUDA:-}" ] && [ ! -f .venv/.libtorch-cuda ]; then
    echo "Installing the CUDA libraries of libtorch into .venv (about 3 GB)"
    .venv/bin/pip install --quiet --no-compile -r "$requirements"
    touch .venv/.libtorch-cuda
  fi
}

[ -n "${SKIP_DEBIAN_PACKAGES:-}" ] || install_debian_packages
libtorch=$(given_libtorch)
if [ -n "$libtorch" ]; then
  echo "libtorch: $libtorch"
else
  install_libtorch
fi
echo "Dependencies: all there"
