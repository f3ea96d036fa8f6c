#!/bin/sh
# Makes a fresh machine ready: npm packages (among them the Node that Backlot runs on) and the system packages that are
# missing. It needs nothing but a POSIX shell and any npm, says what it does, and is quick when nothing is missing.
# With --product it leaves out what only the tests need. With --packages it ends when the system has what it needs: this is
# for root to run where whoever works here is somebody else.
set -eu
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*"; }
fail() {
  say "$*" >&2
  exit 1
}

product_only=
packages_only=
for word; do
  case "$word" in
    --product) product_only=$word ;;
    --packages) packages_only=$word ;;
    *) fail "it knows --product and --packages, and not $word" ;;
  esac
done

# Lists of "command-or-module package" pairs; the package is installed when its command is not there.
product='libatomic.so.1 libatomic1
qemu-img qemu-utils
mmdebstrap mmdebstrap
/usr/sbin/mke2fs e2fsprogs
/usr/lib/grub/i386-pc/boot.img grub-pc-bin
qemu-system-x86_64 qemu-system-x86
setpriv util-linux
prlimit util-linux'
tests='/usr/bin/aws awscli
python3-module-boto3 python3-boto3
openssl openssl
/usr/sbin/nginx nginx
/usr/bin/chromium chromium
cpio cpio
busybox-static busybox-static
bwrap bubblewrap
Xtigervnc tigervnc-standalone-server
xterm xterm
postgresql-server postgresql'

present() {
  case "$1" in
    python3-module-*) /usr/bin/python3 -c "import ${1#python3-module-}" >/dev/null 2>&1 ;;
    busybox-static) command -v busybox >/dev/null 2>&1 && ! ldd "$(command -v busybox)" >/dev/null 2>&1 ;;
    *.img) [ -e "$1" ] ;;
    # The loader's list: Node is linked with it, and a small Debian does not have it.
    lib*.so.*) PATH="$PATH:/usr/sbin:/sbin" ldconfig -p 2>/dev/null | grep -qF "$1" ;;
    postgresql-server) ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
  esac
}

missing_packages() {
  printf '%s\n' "$wanted" | while read -r thing package; do
    present "$thing" || printf '%s\n' "$package"
  done | sort -u | paste -s -d ' ' -
}

may_be_root() {
  if [ "$(id -u)" = 0 ]; then as_root=
  elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then as_root=sudo
  else return 1
  fi
}

wanted=$product
[ -n "$product_only" ] || wanted="$product
$tests"

packages=$(missing_packages)
if [ -n "$packages" ]; then
  if ! command -v apt-get >/dev/null 2>&1; then
    fail "please install these with your package manager, then run this again: $packages"
  fi
  if ! may_be_root; then
    say "these packages are missing: $packages" >&2
    please='please have root run this'
    command -v sudo >/dev/null 2>&1 && please='please run this with sudo'
    fail "$please, then run set-up again: sh '$PWD/scripts/setup.sh' --packages${product_only:+ $product_only}"
  fi
  say "installing $packages (this may take some minutes)"
  # Tests start servers of their own: installing the programs shall neither make nor start one for the whole machine.
  no_cluster=/etc/postgresql-common/createcluster.conf
  no_start=/usr/sbin/policy-rc.d
  passing=
  trap '[ -z "$passing" ] || $as_root rm -f $passing' EXIT
  case " $packages " in
    *' postgresql '*)
      if [ ! -e "$no_cluster" ]; then
        passing="$passing $no_cluster"
        $as_root mkdir -p "${no_cluster%/*}"
        echo 'create_main_cluster = false' | $as_root tee "$no_cluster" >/dev/null
      fi
      ;;
  esac
  case " $packages " in
    *' nginx '*)
      if [ ! -e "$no_start" ]; then
        passing="$passing $no_start"
        printf '#!/bin/sh\nexit 101\n' | $as_root tee "$no_start" >/dev/null
        $as_root chmod 755 "$no_start"
      fi
      ;;
  esac
  $as_root apt-get update -qq || say "the lists of packages could not be renewed; trying with those that are there"
  # shellcheck disable=SC2086 # the list is meant to split
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null ||
    fail "apt-get could not install $packages; it says why above"
  packages=$(missing_packages)
  [ -z "$packages" ] || fail "still missing after the installation: $packages"
fi
if [ -n "$packages_only" ]; then
  say "the system has the packages that it needs"
  exit
fi

# What npm has written down of its last whole installation, against what the lock file asks for. It takes the Node that
# was installed: where that does not run, something is to do as well. Optional packages may be for other machines, and
# those for development are left to whoever wants the product alone.
npm_packages_are_there() {
  node_modules/.bin/node -e "
    const packagesOf = (file) => JSON.parse(require('node:fs').readFileSync(file, 'utf8')).packages;
    const [wanted, found] = ['package-lock.json', 'node_modules/.package-lock.json'].map(packagesOf);
    delete wanted[''];
    const mayLack = ({ optional, dev }) => optional || (dev && process.argv[1] === '--product');
    const fits = ([path, entry]) => found[path] ? found[path].integrity === entry.integrity : mayLack(entry);
    process.exit(Object.entries(wanted).every(fits) && Object.keys(found).every((path) => wanted[path]) ? 0 : 1);
  " -- "$product_only" >/dev/null 2>&1
}

if npm_packages_are_there; then
  say "npm packages are there"
else
  say "installing npm packages"
  # Its warnings are of what the Node that npm itself runs on would be too old for.
  npm ci --no-audit --no-fund --loglevel=error || fail "npm could not install its packages; it says why above"
  [ -e node_modules/.bin/node ] ||
    fail "npm left out the Node that Backlot runs on; if it is set to ignore scripts, run: npm ci --ignore-scripts=false"
  said=$(node_modules/.bin/node --version 2>&1) || fail "the Node that npm installed does not run here: $said"
fi

# Compiles every source file once, so that the first start is as quick as any other.
node_modules/.bin/node src/main.ts --help >/dev/null

# The machine that tests start is made of Debian's packages, once, so that they need not each wait for it.
make_test_machine() {
  node_modules/.bin/node -e "import('./test/support/tiny-image.ts').then(({ tinyImage }) => tinyImage())"
}
if [ -z "$product_only" ] && ! make_test_machine; then
  say "trying that again with new lists of packages"
  may_be_root && $as_root apt-get update -qq && make_test_machine ||
    fail "the machine that tests start could not be made; it says why above"
fi
say "ready: npm start, or npm test"
