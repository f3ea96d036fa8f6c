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
put 644 /etc/skel/.jwmrc <<'END'
<?xml version="1.0"?>
<JWM>
  <RootMenu onroot="123" height="30">
    <Program label="Terminal">xterm</Program>
    <Program label="Files">thunar</Program>
    <Program label="Text editor">mousepad</Program>
    <Program label="Pictures">ristretto</Program>
    <Dynamic label="All programs" height="30">exec:desktop-programs</Dynamic>
    <Separator/>
    <Exit label="Leave the desktop" confirm="true"/>
  </RootMenu>
  <Tray x="0" y="-1" height="36">
    <Spacer width="8"/>
    <TrayButton label="Menu">root:1</TrayButton>
    <Spacer width="12"/>
    <TrayButton label="Terminal">exec:xterm</TrayButton>
    <Spacer width="12"/>
    <TrayButton label="Files">exec:thunar</TrayButton>
    <Spacer width="16"/>
    <TaskList maxwidth="220"/>
    <Dock/>
    <Clock format="%a %H:%M"/>
    <Spacer width="8"/>
  </Tray>
  <Desktops width="1" height="1">
    <Background type="gradient">#3b4a63:#171a21</Background>
  </Desktops>
  <WindowStyle decorations="flat">
    <Font>DejaVu Sans-10:bold</Font>
    <Width>4</Width>
    <Height>28</Height>
    <Foreground>#aab2bf</Foreground>
    <Background>#2b303b</Background>
    <Outline>#171a21</Outline>
    <Active>
      <Foreground>#ffffff</Foreground>
      <Background>#3a6ea5</Background>
      <Outline>#171a21</Outline>
    </Active>
  </WindowStyle>
  <TrayStyle decorations="flat">
    <Font>DejaVu Sans-10</Font>
    <Foreground>#e6e9ef</Foreground>
    <Background>#1e222a</Background>
    <Outline>#171a21</Outline>
    <Active>
      <Foreground>#ffffff</Foreground>
      <Background>#3a6ea5</Background>
    </Active>
  </TrayStyle>
  <MenuStyle decorations="flat">
    <Font>DejaVu Sans-10</Font>
    <Foreground>#e6e9ef</Foreground>
    <Background>#1e222a</Background>
    <Outline>#3b4252</Outline>
    <Active>
      <Foreground>#ffffff</Foreground>
      <Background>#3a6ea5</Background>
    </Active>
  </MenuStyle>
  <PopupStyle>
    <Font>DejaVu Sans-10</Font>
    <Foreground>#e6e9ef</Foreground>
    <Background>#1e222a</Background>
    <Outline>#3b4252</Outline>
  </PopupStyle>
  <FocusModel>click</FocusModel>
  <SnapMode distance="10">border</SnapMode>
  <MoveMode>opaque</MoveMode>
  <ResizeMode>opaque</ResizeMode>
  <Key mask="A" key="Tab">nextstacked</Key>
  <Key mask="A" key="F4">close</Key>
  <Key mask="A" key="F1">root:1</Key>
  <Key key="Super_L">root:1</Key>
</JWM>
END
put 755 /usr/local/bin/desktop-programs <<'END'
#!/bin/sh
# The programs that are installed, as a menu.
echo '<JWM>'
for file in /usr/share/applications/*.desktop; do
  awk -F= '
    /^\[/ { here = $0 == "[Desktop Entry]" }
    here && $1 == "Name" { name = $2 }
    here && $1 == "Exec" { sub(/^Exec=/, ""); gsub(/ *%[a-zA-Z]/, ""); run = $0 }
    here && ($1 == "NoDisplay" || $1 == "Terminal" || $1 == "Hidden") && $2 == "true" { left_out = 1 }
    END {
      if (left_out || name == "" || run == "") exit
      gsub(/&/, "\\&amp;", name); gsub(/</, "\\&lt;", name); gsub(/"/, "", name)
      gsub(/&/, "\\&amp;", run); gsub(/</, "\\&lt;", run)
      printf "<Program label=\"%s\">%s</Program>\n", name, run
    }' "$file"
done | sort -f
echo '</JWM>'
END
put 644 /etc/skel/.Xresources <<'END'
XTerm*faceName: DejaVu Sans Mono
XTerm*faceSize: 11
XTerm*background: #1e222a
XTerm*foreground: #e6e9ef
XTerm*geometry: 100x30
XTerm*saveLines: 5000
XTerm*selectToClipboard: true
END
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
xrdb -nocpp -merge "$HOME/.Xresources"
follow-screen &
# Another desktop of Debian that was installed as well is there in place of ours.
if [ -x /usr/bin/x-session-manager ]; then exec dbus-run-session -- x-session-manager; fi
exec dbus-run-session -- jwm
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

# A network where there is one, and no waiting where there is none.
put 644 /etc/network/interfaces <<'END'
auto lo
iface lo inet loopback
allow-hotplug eth0
iface eth0 inet dhcp
END
chroot "$root" systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service \
  serial-getty@ttyS0.service

# A volume may be larger than this disk was made.
put 755 /usr/local/sbin/grow-disk <<'END'
#!/bin/sh
# Lets the root file system fill the disk that it lies on.
set -eu
device=/sys/dev/block/$(mountpoint --fs-devno /)
read -r start <"$device/start"
read -r size <"$device/size"
read -r disk_size <"$device/../size"
# What is less than a mebibyte is how partitions are rounded.
[ $((disk_size - start - size)) -ge 2048 ] || exit 0
partition=$(findmnt --noheadings --output SOURCE /)
disk=$(lsblk --noheadings --nodeps --output PKNAME "$partition")
read -r number <"$device/partition"
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
