#!/bin/sh
# Installs the Debian packages that dnet needs and that are missing, and says which. What follows on the command
# line is then made: `sh setup.sh demo` works on a machine that has nothing yet, not even make.
set -eu
cd "$(dirname "$0")"

# The last two start processes for `dnet run`; they are small (6 MB with their libraries).
PACKAGES="make gcc libc6-dev linux-libc-dev python3 python3-venv python3-dev libnftables1 python3-nftables
nftables iproute2 iputils-ping crun conmon"
case "${1:-}" in
    # Programs that tests ask, compare or disturb dnet with, or run in containers; the last three are for a virtual machine.
    test | test-python | test-kernel | test-vm)
        PACKAGES="$PACKAGES busybox-static curl dnsmasq-base docker.io ethtool iptables nginx openssh-client
        openssh-server openssl openvswitch-switch redis-tools tcpdump
        file kmod qemu-system-x86"
        ;;
esac
# The VLAN programs are what this compiler makes of their source, and it fuzzes; only Debian 12 is sure to have it.
case "${1:-}" in
    test | bpf | check-bpf | fuzz)
        if grep -q '^VERSION_CODENAME=bookworm' /etc/os-release; then
            PACKAGES="$PACKAGES clang-14 libclang-rt-14-dev"
        fi
        ;;
esac

# Some of them are daemons, of which only the programs are wanted: policy-rc.d(8) keeps apt from starting them, unless
# somebody has a policy already, and what apt has enabled for the next boot is disabled again.
install_packages() (
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        trap 'exit 1' HUP INT TERM
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    before=$(enabled_units)
    # A fresh system has no package lists yet.
    apt-get install --yes --no-install-recommends "$@" >/dev/null 2>&1 || {
        apt-get update --quiet=2
        apt-get install --yes --quiet=2 --no-install-recommends "$@" >/dev/null
    }
    # Without any before, it is no systemd that boots this machine.
    for unit in ${before:+$(enabled_units)}; do
        if ! echo "$before" | grep -qx "$unit"; then
            echo "setup: disabling $unit"
            systemctl --root=/ --quiet disable "$unit"
        fi
    done
)
enabled_units() {
    command -v systemctl >/dev/null || return 0
    systemctl --root=/ --no-legend list-unit-files --state=enabled | cut -d' ' -f1
}

missing=""
for package in $PACKAGES; do
    case "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)" in
        installed) ;;
        *) missing="$missing $package" ;;
    esac
done
if [ -n "$missing" ]; then
    if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
        echo "setup: these packages (Debian's names) are missing:$missing" >&2
        echo "setup: install them, or run this as root on Debian" >&2
        exit 1
    fi
    echo "setup: installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    install_packages $missing
fi
[ $# -eq 0 ] || exec make "$@"
