#!/bin/bash
# Boots a copy of this system with systemd as its first process, in namespaces of its
# own, with the Debian package installed, and has it run a script:
# boot.sh PACKAGE SCRIPT OUT. What the script prints goes to the file OUT; when it ends,
# so does all of it.
set -eu
package=$1 script=$2 out=$3
. "$(dirname "$0")/copy.sh"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
	touch "$root/dev/$device"
	mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
	mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
	mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
	mkdir "$root/sys/fs/cgroup/systemd"
	mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
fi

# Of the units of this system no more than what every boot has.
rm -rf "$root/etc/systemd/system" "$root/var/log/journal"
mkdir -p "$root/etc/systemd/system"
chroot "$root" dpkg --install /tmp/pop3gw.deb >/dev/null 2>&1
cp "$script" "$root/usr/local/bin/trial"
touch "$root/etc/trial.out"
mount --bind "$out" "$root/etc/trial.out"
cat >"$root/etc/systemd/system/trial.service" <<'UNIT'
[Unit]
Wants=basic.target
After=basic.target
SuccessAction=exit-force
FailureAction=exit-force
[Service]
Type=oneshot
ExecStart=/bin/bash /usr/local/bin/trial
StandardOutput=append:/etc/trial.out
StandardError=inherit
TimeoutStartSec=120s
UNIT
cd "$root"
mkdir -p mnt/before
pivot_root . mnt/before
umount -l /mnt/before
exec env -i container=trial PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=trial.service --show-status=0 --log-target=null
