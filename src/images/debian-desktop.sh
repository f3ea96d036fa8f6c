# Makes a workstation of the Debian system in $1: run as its root from outside, once all packages are in.
set -eu
root=$1

put() { # put MODE PATH: what is said becomes a file of the system
  mkdir -p "$root${2%/*}"
  cat >"$root$2"
  chmod "$1" "$root$2"
}

echo workstation >"$root/etc/hostname"
put 644 /etc/hosts <<'END'
127.0.0.1 localhost
127.0.1.1 workstation
::1 localhost ip6-localhost ip6-loopback
END
put 644 /etc/default/locale <<'END'
LANG=C.UTF-8
END

# The artist's desktop is there when the machine has started; leaving it starts a new one.
chroot "$root" useradd --create-home --uid 1000 --shell /bin/bash --groups audio,video,input artist
put 644 /etc/systemd/system/getty@tty1.service.d/autologin.conf <<'END'
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin artist --noclear %I linux
Type=simple
END
put 644 /etc/profile.d/desktop.sh <<'END'
if [ "$(tty)" = /dev/tty1 ] && [ "$(id -u)" = 1000 ]; then
  exec startx /usr/local/bin/desktop-session -- vt1 -keeptty -nolisten tcp >"$HOME/.desktop.log" 2>&1
fi
END
put 755 /usr/local/bin/desktop-session <<'END'
#!/bin/sh
# Whoever sees this screen sees it from afar: it never goes dark by itself, and follows the size of their window.
xset s off -dpms
follow-screen &
exec dbus-run-session -- xfce4-session
END
put 755 /usr/local/bin/follow-screen <<'END'
#!/bin/sh
# Takes the size that the (virtual) screen asks for, now and each time that it changes.
take_size() { xrandr --output "$(xrandr | awk '/ connected/ { print $1; exit }')" --auto; }
take_size
udevadm monitor --udev --subsystem-match=drm | while read -r line; do
  case $line in UDEV*change*) take_size ;; esac
done
END
# The processor draws everything here.
put 644 /etc/X11/xorg.conf.d/10-screen.conf <<'END'
Section "Device"
  Identifier "screen"
  Driver "modesetting"
  Option "AccelMethod" "none"
EndSection
END
put 644 /etc/xdg/xfce4/xfconf/xfce-perchannel-xml/xfwm4.xml <<'END'
<?xml version="1.0" encoding="UTF-8"?>
<channel name="xfwm4" version="1.0">
  <property name="general" type="empty">
    <property name="use_compositing" type="bool" value="false"/>
  </property>
</channel>
END

# A network where there is one, and no waiting where there is none.
put 644 /etc/systemd/network/20-wired.network <<'END'
[Match]
Name=en* eth*
[Network]
DHCP=yes
END
chroot "$root" systemctl --quiet enable systemd-networkd.service systemd-resolved.service
chroot "$root" systemctl --quiet mask systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer \
  e2scrub_all.timer e2scrub_reap.service serial-getty@ttyS0.service

# A volume may be larger than this disk was made.
put 755 /usr/local/sbin/grow-disk <<'END'
#!/bin/sh
# Lets the root file system fill the disk that it lies on.
set -eu
partition=$(findmnt --noheadings --output SOURCE /)
disk=$(lsblk --noheadings --nodeps --output PKNAME "$partition")
number=$(cat "/sys/class/block/${partition##*/}/partition")
echo ', +' | sfdisk --quiet --no-reread --force -N "$number" "/dev/$disk"
partx --update --nr "$number" "/dev/$disk"
resize2fs "$partition"
END
put 644 /etc/systemd/system/grow-disk.service <<'END'
[Unit]
Description=Let the root file system fill its disk
After=local-fs.target
[Service]
Type=oneshot
ExecStart=/usr/local/sbin/grow-disk
[Install]
WantedBy=multi-user.target
END
chroot "$root" systemctl --quiet enable grow-disk.service

# Of the machine that made it nothing stays: each workstation gets an id of its own, and goes its own way to the network.
: >"$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id" "$root/etc/apt/apt.conf.d/99mmdebstrap" "$root/etc/resolv.conf"
ln -s ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
