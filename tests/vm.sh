#!/bin/sh
# Runs tests as root in a virtual machine that sees this machine's files, on Debian's kernel: it has what a
# development machine's may lack, bridges that filter VLANs among it. Called by `make test-vm` and
# tests/kernel/system/test_on_another_kernel.py.
#
#     tests/vm.sh DIRECTORY PYTHON TESTS...        the kernel is kept in DIRECTORY; exits as pytest does
#
# By software emulation, some 15 times slower than outside: a machine in the cloud may show a /dev/kvm that does not
# work. With one processor: two, which wait for each other, take more than twice the time of one. What tests write to
# files is lost with the machine.
set -eu
directory=$1 python=$2
shift 2
PATH="$(dirname "$python"):$PATH:/usr/sbin:/sbin"
for program in qemu-system-x86_64 apt-get dpkg-deb depmod file vng; do
    command -v "$program" >/dev/null || {
        echo "vm: $program is missing (packages qemu-system-x86, kmod and file, on Debian; virtme-ng of PyPI)" >&2
        exit 1
    }
done

# Taken out of its package, since to install that would also change what this machine boots.
download() {
    package=$(apt-cache depends linux-image-amd64 | awk '/Depends:/ {print $2; exit}')
    [ -n "$package" ] && (cd "$directory.new" && apt-get --quiet=2 --option APT::Sandbox::User=root download "$package")
}
if [ ! -d "$directory" ]; then
    rm -rf "$directory.new"
    mkdir -p "$directory.new"
    # A fresh system has no package lists yet, an old one's are out of date.
    download 2>/dev/null || { apt-get update --quiet=2 && download; }
    dpkg-deb --extract "$directory.new"/*.deb "$directory.new"
    rm "$directory.new"/*.deb
    depmod --basedir "$directory.new" "$(ls "$directory.new/lib/modules")"
    mv "$directory.new" "$directory"
fi

options="-p no:cacheprovider -p no:xdist -p no:hypothesispytest --color=no --basetemp=/run/pytest"
tests="DNET_TEST_VM=1 PYTHONDONTWRITEBYTECODE=1 $python -m pytest $options $*"
# The exit code comes over the console as everything does: other channels need udev in the machine. What the console has
# not written when the machine is switched off is lost.
script="dmesg -n 1; modprobe br_netfilter; echo; echo 'vm: begin'; cd '$(pwd)' && ( $tests ); echo \"vm: exit \$?\"
$python -c 'import termios; termios.tcdrain(1)'"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
vng --verbose --disable-kvm --force-9p --cpus 1 --memory 2G --run "$(echo "$directory"/boot/vmlinuz-*)" --user root -- \
    "$script" </dev/null 2>&1 |
    tr -d '\r' | tee "$log" | sed -n '/^vm: begin$/,/^vm: exit/ { /^\[ *[0-9]*\.[0-9]*\]/!p }'
code=$(sed -n 's/^vm: exit \([0-9]*\)$/\1/p' "$log")
[ -n "$code" ] || tail -n 40 "$log" >&2
exit "${code:-1}"
