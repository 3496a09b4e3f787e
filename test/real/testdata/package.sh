#!/bin/bash
# Installs a Debian package in a copy of this system that ends with this script, and
# prints what comes of it: package.sh PACKAGE. Run it in a mount namespace.
set -eu
over=$(mktemp -d)
mount -t tmpfs tmpfs "$over"
mkdir "$over/upper" "$over/work" "$over/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$over/upper,workdir=$over/work" "$over/root"
mount -t proc proc "$over/root/proc"
mount --rbind /dev "$over/root/dev"
mount -t tmpfs tmpfs "$over/root/tmp"
mount -t tmpfs tmpfs "$over/root/run"
cp "$1" "$over/root/tmp/pop3gw.deb"
inside() { echo "# $*"; chroot "$over/root" "$@" 2>&1 || echo "status $?"; }

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
