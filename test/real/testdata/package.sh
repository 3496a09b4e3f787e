#!/bin/bash
# Installs a Debian package in a copy of this system that ends with this script, and
# prints what comes of it: package.sh PACKAGE. Run it in a mount namespace.
set -eu
package=$1
. "$(dirname "$0")/copy.sh"
mount --rbind /dev "$root/dev"
inside() { echo "# $*"; chroot "$root" "$@" 2>&1 || echo "status $?"; }

inside dpkg --install /tmp/pop3gw.deb
inside dpkg-query -W -f '${db:Status-Abbrev}${Version}\n' pop3gw
inside dpkg --verify pop3gw
inside getent passwd pop3gw
inside pop3gw version
inside systemctl is-enabled pop3gw.service pop3gw.socket
inside systemd-analyze verify pop3gw.service pop3gw.socket
inside systemd-analyze security --offline=true --no-pager pop3gw.service
inside sh -c 'zcat /usr/share/man/man1/pop3gw-serve.1.gz /usr/share/man/man5/pop3gw-config.5.gz | groff -man -Tascii -ww -z'
inside bash -c '. /usr/share/bash-completion/completions/pop3gw && complete -p pop3gw'
inside sh -c 'echo changed >/etc/pop3gw/config.toml; mkdir -p /var/lib/pop3gw'
inside dpkg --install /tmp/pop3gw.deb
inside dpkg --remove pop3gw
inside sh -c 'ls /usr/bin/pop3gw; cat /etc/pop3gw/config.toml; getent passwd pop3gw'
inside dpkg --purge pop3gw
inside sh -c 'ls -d /var/lib/pop3gw; getent passwd pop3gw'
