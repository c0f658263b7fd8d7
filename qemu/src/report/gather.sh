# Run in the guest as root. Each part starts with a line `=== NAME`; report::parse reads them.
# Whatever fails leaves its part empty: the report says so, the rest of it still counts.
part() { printf '\n=== %s\n' "$1"; }
# Four bytes of attributes, then UTF-16. efivarfs files cannot be sought in, pipes need not be.
variable() { cat "/sys/firmware/efi/efivars/$1-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f" | tail -c +5 | tr -d '\0'; echo; }
part state; systemctl is-system-running
part failed; systemctl list-units --state=failed --plain --no-legend --no-pager
part os; cat /usr/lib/os-release
part kernel; uname -r
part cmdline; cat /proc/cmdline
part loader; variable LoaderInfo
part entry; variable LoaderEntrySelected
part firmware; variable LoaderFirmwareInfo
part usr; findmnt -J -o SOURCE,FSTYPE,OPTIONS --mountpoint /usr
part verity; veritysetup status "$(cat "/sys/dev/block/$(mountpoint -d /usr)/dm/name")"
part root; findmnt -J -b -o SOURCE,FSTYPE,SIZE,USED,OPTIONS --mountpoint /
part disks; lsblk -J -b -o NAME,TYPE,SIZE,PARTN,PARTLABEL,PARTTYPENAME,FSTYPE,MOUNTPOINTS
part memory; cat /proc/meminfo
part times; systemctl show -P FirmwareTimestampMonotonic -P LoaderTimestampMonotonic -P UserspaceTimestampMonotonic -P FinishTimestampMonotonic
part init; dmesg | grep -F 'pithos-init:'
part sockets; ss -Hltunp
part end
