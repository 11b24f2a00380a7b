#!/bin/bash
# Boot the machine's own systemd in a container: an overlay of / on the tmpfs $1, with fresh namespaces.
set -euo pipefail
base=$1 root=$1/root
mount --make-rprivate /
mkdir -p "$base"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" "$root"
# The services of the machine stay off; what a test enables comes back at the next boot.
[ -e "$base/booted" ] || rm -f "$root"/etc/systemd/system/*.target.wants/*
touch "$base/booted"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty fuse; do
    [ -e "/dev/$device" ] || continue
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root"/dev/{pts,shm}
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
hostname larkdrop-test
cd "$root"
mkdir run/outside
# Not chroot: within one, the kernel allows no user namespaces, which PrivateUsers= needs.
pivot_root . run/outside
umount -l run/outside
# As on a real machine: systemd hands credentials over through shared mounts.
mount --make-rshared /
exec env -i container=larkdrop-test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
