#!/bin/sh
# Makes a fresh machine ready: npm packages (among them the Node that Backlot runs on) and the system packages that are
# missing. It needs nothing but a POSIX shell and any npm, says what it does, and is quick when nothing is missing.
# With --product it leaves out what only the tests need.
set -eu
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*"; }

# Lists of "command-or-module package" pairs; the package is installed when its command is not there.
product='qemu-img qemu-utils
setpriv util-linux
prlimit util-linux'
tests='/usr/bin/aws awscli
python3-module-boto3 python3-boto3'

present() {
  case "$1" in
    python3-module-*) /usr/bin/python3 -c "import ${1#python3-module-}" >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
  esac
}

missing_packages() {
  printf '%s\n' "$wanted" | while read -r thing package; do
    present "$thing" || printf '%s\n' "$package"
  done | sort -u | tr '\n' ' '
}

wanted=$product
[ "${1:-}" = --product ] || wanted="$product
$tests"

packages=$(missing_packages)
if [ -n "$packages" ]; then
  if ! command -v apt-get >/dev/null 2>&1; then
    say "please install these with your package manager, then run this again: $packages"
    exit 1
  fi
  if [ "$(id -u)" = 0 ]; then as_root=
  elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then as_root=sudo
  else
    say "please run: sudo apt-get install --no-install-recommends $packages"
    exit 1
  fi
  say "installing $packages"
  $as_root apt-get update -qq
  # shellcheck disable=SC2086 # the list is meant to split
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
  packages=$(missing_packages)
  if [ -n "$packages" ]; then
    say "still missing after the installation: $packages"
    exit 1
  fi
fi

# npm writes this file at the end of an installation: older than the lock file, or absent, means something is to do.
if [ node_modules/.package-lock.json -nt package-lock.json ] && node_modules/.bin/node --version >/dev/null 2>&1; then
  say "npm packages are there"
else
  say "installing npm packages"
  npm ci --no-audit --no-fund
fi

# Compiles every source file once, so that the first start is as quick as any other.
node_modules/.bin/node src/main.ts --help >/dev/null
say "ready: npm start, or npm test"
