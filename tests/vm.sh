#!/bin/sh
# Runs a command as root in a virtual machine that sees this machine's files, on Debian's kernel: it has what a
# development machine's may lack, bridges that filter VLANs among it. Called by `make test-vm`.
#
#     tests/vm.sh DIRECTORY COMMAND...        the kernel is kept in DIRECTORY; exits as COMMAND does
#
# By software emulation, some 15 times slower than outside: a machine in the cloud may show a /dev/kvm that does not
# work. What COMMAND writes to files is lost with the machine.
set -eu
directory=$1
shift
for program in qemu-system-x86_64 apt-get dpkg-deb depmod vng; do
    command -v "$program" >/dev/null || {
        echo "vm: $program is missing (packages qemu-system-x86 and kmod, on Debian; virtme-ng of PyPI)" >&2
        exit 1
    }
done

image=$(find "$directory/boot" -name 'vmlinuz-*' 2>/dev/null | head -n 1)
if [ -z "$image" ]; then
    package=$(apt-cache depends linux-image-amd64 | awk '/Depends:/ {print $2; exit}')
    mkdir -p "$directory"
    (cd "$directory" && apt-get download --quiet=2 "$package")
    dpkg-deb --extract "$directory/$package"_*.deb "$directory"
    rm "$directory/$package"_*.deb
    image=$(find "$directory/boot" -name 'vmlinuz-*')
    depmod --basedir "$directory" "${image##*/vmlinuz-}"
fi

# The exit code comes over the console as everything does: other channels need udev in the machine.
script="dmesg -n 1; echo; echo 'vm: begin'; cd '$(pwd)' && ( $* ); echo \"vm: exit \$?\""
log=$(mktemp)
trap 'rm -f "$log"' EXIT
vng --verbose --disable-kvm --force-9p --cpus 2 --memory 2G --run "$image" --user root -- "$script" </dev/null 2>&1 |
    tr -d '\r' | tee "$log" | sed -n '/^vm: begin$/,/^vm: exit/ { /^\[ *[0-9]*\.[0-9]*\]/!p }'
code=$(sed -n 's/^vm: exit \([0-9]*\)$/\1/p' "$log")
exit "${code:-1}"
