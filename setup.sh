#!/bin/sh
# Installs the Debian packages that dnet needs and that are missing, and says which. What follows on the command
# line is then made: `sh setup.sh demo` works on a machine that has nothing yet, not even make.
set -eu
cd "$(dirname "$0")"

PACKAGES="make gcc libc6-dev linux-libc-dev python3 python3-venv python3-dev libnftables1 python3-nftables
nftables iproute2 iputils-ping"
case "${1:-}" in
    test*) PACKAGES="$PACKAGES curl iptables" ;; # programs that tests ask, or disturb dnet with
esac

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
    # A fresh system has no package lists yet.
    apt-get install --yes --no-install-recommends $missing >/dev/null 2>&1 || {
        apt-get update --quiet=2
        apt-get install --yes --quiet=2 --no-install-recommends $missing >/dev/null
    }
fi
[ $# -eq 0 ] || exec make "$@"
