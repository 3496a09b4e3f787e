# Sourced in a mount namespace: makes a copy of this system in $root that ends with
# what runs in the namespace, with the Debian package $package in /tmp/pop3gw.deb.
over=$(mktemp -d)
mount -t tmpfs tmpfs "$over"
mkdir "$over/upper" "$over/work" "$over/root"
root=$over/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$over/upper,workdir=$over/work" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/run"
cp "$package" "$root/tmp/pop3gw.deb"
