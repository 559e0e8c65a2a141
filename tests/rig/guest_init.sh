#!/bin/busybox sh
# The guest's first program: modules, the host's root read-only over 9p, udev for names by id, then the agent.
b=/bin/busybox
export PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_IGNORE_CHROOT=1
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
while read -r module; do $b insmod "$module" || $b echo "rig: $module was not loaded"; done </root
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro host /host || $b poweroff -f
while read -r module; do $b insmod "$module" || $b echo "rig: $module was not loaded"; done </devices
for name in tmp run; do $b mount -t tmpfs -o mode=1777 $name /host/$name; done
$b ip link set lo up
$b ip address add 10.0.2.15/24 dev eth0 && $b ip link set eth0 up
for name in dev proc sys; do $b mount --move /$name /host/$name; done
eval "$($b sed 's/ /\n/g' /host/proc/cmdline | $b grep ^rig_)"
# shellcheck disable=SC2154 # rig_rules, rig_python and rig_agent come from the kernel's command line
$b mkdir -p /host/run/udev/rules.d && $b cp /host"$rig_rules"/* /host/run/udev/rules.d/
$b chroot /host /lib/systemd/systemd-udevd --daemon
# What was there before udev: the agent's own port, the serial line.
$b chroot /host udevadm trigger --action=add --subsystem-match=virtio-ports --subsystem-match=tty
$b chroot /host udevadm settle
$b chroot /host "$rig_python" -X frozen_modules=on "$rig_agent" || $b echo "rig: the agent ended"
$b poweroff -f
