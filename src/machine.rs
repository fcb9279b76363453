//! How much memory the machine has left for this process, before work begins: Rust ends the process where an allocation fails, and the
//! kernel kills it where memory that was promised is not there.
//!
//! Known on Linux only; nothing known is no limit. Swap does not count: what a training step touches is all of its memory again and again,
//! so that a machine which swaps it stands still, and today's desktops end the program that makes them swap.

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// Bytes that a call may need, whatever the machine has left: a number, or one with K, M, G or T behind it (times 1024 each). A caller's
/// own limit counts beside it.
pub const LIMIT_VARIABLE: &str = "NADA_MEMORY_LIMIT";

/// What is left by the tightest of the limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    pub bytes: u64,
    /// The limit and where it comes from, as a message goes on after "..., and ".
    pub says: String,
}

/// Reads a file of the kernel's; None where it is not there.
type Read<'a> = &'a dyn Fn(&Path) -> Option<String>;

/// By the machine's free memory, the limits of the process's control groups (both versions, with every group above) and its own limits of
/// address space and data. What is loaded already is in what is used. Takes well below a millisecond.
pub fn room() -> Option<Room> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    room_by(&|path| std::fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// What a call may need: what [`LIMIT_VARIABLE`] says, else what the machine has left but for a tenth. Estimates are off by a few in a
/// hundred, and the host goes on painting.
pub(crate) fn limit() -> Result<Option<Room>> {
    Ok(match variable()? {
        Some(bytes) => Some(Room { bytes, says: format!("{LIMIT_VARIABLE} is {}", size(bytes)) }),
        None => left(),
    })
}

fn left() -> Option<Room> {
    room().map(|room| Room { bytes: room.bytes / 10 * 9, says: format!("{}, of which a tenth is kept free", room.says) })
}

/// Less than this is not worth a look before it is loaded.
const SMALL: u64 = 8 << 20;

/// `OutOfMemory` where the machine has no room for `bytes` of `path` that are about to be loaded. What a user allows calls to need
/// beside what is loaded says nothing of that, but lifts the look.
pub(crate) fn admit_loading(path: &Path, bytes: u64) -> Result<()> {
    if bytes < SMALL || variable()?.is_some() {
        return Ok(());
    }
    match left() {
        Some(Room { bytes: left, says }) if bytes > left => {
            Err(Error::OutOfMemory(format!("{}: needs {} at once, and {says}", path.display(), size(bytes))))
        }
        _ => Ok(()),
    }
}

fn room_by(read: Read) -> Option<Room> {
    let all = free(read).into_iter().chain(own_limits(read)).chain(groups(read).into_iter().flat_map(|group| group.room(read)));
    all.min_by_key(|room| room.bytes)
}

/// The number of kB after `name` at the beginning of a line, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

fn free(read: Read) -> Option<Room> {
    let bytes = kilobytes(&read(Path::new("/proc/meminfo"))?, "MemAvailable:")?;
    Some(Room { bytes, says: format!("this machine has {} available (MemAvailable of /proc/meminfo)", size(bytes)) })
}

fn own_limits(read: Read) -> Vec<Room> {
    let text = |path: &str| read(Path::new(path)).unwrap_or_default();
    let (limits, status) = (text("/proc/self/limits"), text("/proc/self/status"));
    let one = |line: &str, used: &str, name: &str| {
        let soft = limits.lines().find_map(|l| l.strip_prefix(line))?.split_whitespace().next()?;
        // "unlimited" is no number.
        let (limit, used) = (soft.parse::<u64>().ok()?, kilobytes(&status, used)?);
        let bytes = limit.saturating_sub(used);
        Some(Room { bytes, says: format!("{} are left of the {} that this process is limited to ({name})", size(bytes), size(limit)) })
    };
    let address_space = one("Max address space", "VmSize:", "address space: RLIMIT_AS, ulimit -v");
    address_space.into_iter().chain(one("Max data size", "VmData:", "data: RLIMIT_DATA, ulimit -d")).collect()
}

/// The process's place in a hierarchy of control groups that limits memory.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    files: &'static Files,
    /// Where the hierarchy is mounted.
    mount: PathBuf,
    /// The process's own group: `mount` or below it.
    folder: PathBuf,
}

/// A group's files.
#[derive(Debug, PartialEq, Eq)]
struct Files {
    limits: &'static [&'static str],
    used: &'static str,
    /// The lines of memory.stat that count what the kernel drops before it kills: without them a container that has read large files would
    /// seem full.
    dropped: &'static [&'static str],
}

const V1: Files =
    Files { limits: &["memory.limit_in_bytes"], used: "memory.usage_in_bytes", dropped: &["total_inactive_file ", "total_active_file "] };

/// Above memory.high a group is not killed: it is held up until it gives memory back, which a step never does.
const V2: Files = Files {
    limits: &["memory.max", "memory.high"],
    used: "memory.current",
    dropped: &["inactive_file ", "active_file ", "slab_reclaimable "],
};

/// A v1 group without a limit has the largest multiple of a page here.
const NO_LIMIT: u64 = 1 << 62;

/// cgroups(7): what /proc/self/cgroup says, where /proc/self/mountinfo says that it is mounted.
fn groups(read: Read) -> Vec<Group> {
    let text = |path: &str| read(Path::new(path)).unwrap_or_default();
    let (member, mounts) = (text("/proc/self/cgroup"), text("/proc/self/mountinfo"));
    let mut groups = vec![];
    for line in member.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let files = match controllers {
            "" if id == "0" => &V2,
            list if list.split(',').any(|c| c == "memory") => &V1,
            _ => continue,
        };
        let mounted = mounts.lines().filter_map(mount).find(|m| m.files == files);
        if let Some(Mount { root, point, .. }) = mounted {
            // In a container the mount may begin below what the process is told, or the path may lead out of what it can see.
            let below = path.strip_prefix(root.trim_end_matches('/')).filter(|rest| rest.is_empty() || rest.starts_with('/'));
            let below = below.filter(|rest| !rest.split('/').any(|part| part == "..")).unwrap_or_default();
            let folder = point.join(below.trim_start_matches('/'));
            groups.push(Group { files, mount: point, folder });
        }
    }
    groups
}

struct Mount {
    files: &'static Files,
    root: String,
    point: PathBuf,
}

/// A line of mountinfo (proc(5)) that mounts control groups of memory.
fn mount(line: &str) -> Option<Mount> {
    let (head, tail) = line.split_once(" - ")?;
    let mut tail = tail.split(' ');
    let files = match tail.next()? {
        "cgroup2" => &V2,
        "cgroup" if tail.nth(1)?.split(',').any(|option| option == "memory") => &V1,
        _ => return None,
    };
    let mut head = head.split(' ').skip(3);
    Some(Mount { files, root: unescaped(head.next()?), point: unescaped(head.next()?).into() })
}

/// Space, tab, line end and backslash are written in octal.
fn unescaped(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.into(), |s: String, (from, to)| s.replace(from, to))
}

impl Group {
    /// By the group and by every one above it.
    fn room(&self, read: Read) -> Vec<Room> {
        let inside = self.folder.ancestors().take_while(|folder| folder.starts_with(&self.mount));
        inside.flat_map(|folder| self.room_in(folder, read)).collect()
    }

    fn room_in(&self, folder: &Path, read: Read) -> Vec<Room> {
        let number = |file: &str| read(&folder.join(file))?.trim().parse::<u64>().ok();
        let limits: Vec<(u64, PathBuf)> =
            self.files.limits.iter().filter_map(|file| Some((number(file).filter(|l| *l < NO_LIMIT)?, folder.join(file)))).collect();
        let Some(used) = number(self.files.used).filter(|_| !limits.is_empty()) else { return vec![] };
        let stat = read(&folder.join("memory.stat")).unwrap_or_default();
        let count = |name: &&str| stat.lines().find_map(|l| l.strip_prefix(*name))?.trim().parse::<u64>().ok();
        let dropped: u64 = self.files.dropped.iter().filter_map(count).sum();
        let room = |(limit, file): (u64, PathBuf)| {
            let bytes = limit.saturating_sub(used.saturating_sub(dropped));
            let (left, all) = (size(bytes), size(limit));
            let says = format!("{left} are left of the {all} that its control group is limited to ({})", file.display());
            Room { bytes, says }
        };
        limits.into_iter().map(room).collect()
    }
}

fn variable() -> Result<Option<u64>> {
    match std::env::var_os(LIMIT_VARIABLE) {
        None => Ok(None),
        Some(text) => parse(&text.to_string_lossy()).map(Some),
    }
}

fn parse(text: &str) -> Result<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" => Some(1),
        "K" | "k" => Some(1 << 10),
        "M" | "m" => Some(1 << 20),
        "G" | "g" => Some(1 << 30),
        "T" | "t" => Some(1u64 << 40),
        _ => None,
    };
    let bytes = factor.and_then(|factor| digits.parse::<u64>().ok()?.checked_mul(factor)).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| Error::argument(LIMIT_VARIABLE, format!("is '{text}'; want a number of bytes above 0, or one such as 512M or 6G")))
}

/// As messages give sizes.
pub(crate) fn size(bytes: u64) -> String {
    format!("{bytes} bytes ({:.0} MiB)", bytes as f64 / (1 << 20) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// What the kernel's files say; the first lines of real ones.
    fn room_of(files: &[(&str, &str)]) -> Option<Room> {
        room_by(&|path| files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| text.to_string()))
    }

    const MEMINFO: &str = "MemTotal:       24606324 kB
MemFree:        20132276 kB
MemAvailable:   16777216 kB
Buffers:          204892 kB
Cached:          2763748 kB
SwapCached:            0 kB
SwapFree:       33554432 kB
";

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max file size             unlimited            unlimited            bytes     
Max data size             unlimited            unlimited            bytes     
Max stack size            8388608              unlimited            bytes     
Max address space         3072000000           unlimited            bytes     
";

    const STATUS: &str =
        "Name:\tpython3\nUmask:\t0022\nState:\tR (running)\nVmPeak:\t  700000 kB\nVmSize:\t  500000 kB\nVmRSS:\t  100000 kB\nVmData:\t  200000 kB\n";

    #[test]
    fn nothing_known_is_no_limit() {
        assert_eq!(room_of(&[]), None);
        assert_eq!(
            room_of(&[("/proc/meminfo", "MemTotal: 100 kB\n"), ("/proc/self/limits", "?"), ("/proc/self/cgroup", "0::\nx\n:\n")]),
            None
        );
    }

    #[test]
    fn free_memory_without_swap() {
        let room = room_of(&[("/proc/meminfo", MEMINFO)]).unwrap();
        assert_eq!(room.bytes, 16 * GIB);
        assert!(room.says.contains("17179869184 bytes (16384 MiB)") && room.says.contains("MemAvailable"), "{}", room.says);
    }

    #[test]
    fn the_process_s_own_limits() {
        let files = [("/proc/meminfo", MEMINFO), ("/proc/self/limits", LIMITS), ("/proc/self/status", STATUS)];
        let room = room_of(&files).unwrap();
        assert_eq!(room.bytes, 3_072_000_000 - 500_000 * 1024);
        assert!(room.says.contains("3072000000") && room.says.contains("2560000000") && room.says.contains("ulimit -v"), "{}", room.says);
        let data = LIMITS.replace("size             unlimited            unlimited", "size             1000000000           1000000000");
        let room = room_of(&[files[0], ("/proc/self/limits", &data), files[2]]).unwrap();
        assert_eq!(room.bytes, 1_000_000_000 - 200_000 * 1024);
        assert!(room.says.contains("RLIMIT_DATA"), "{}", room.says);
        // More is in use than a limit that was set later allows.
        let small = LIMITS.replace("3072000000", "1000      ");
        assert_eq!(room_of(&[files[0], ("/proc/self/limits", &small), files[2]]).unwrap().bytes, 0);
    }

    const V2_MOUNT: &str = "24 29 0:22 / /proc rw,nosuid,nodev,noexec,relatime shared:13 - proc proc rw
35 24 0:30 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
";

    /// A desktop's: the limit is two groups above the process, whose own has none; what files hold in memory is not in use.
    #[test]
    fn a_limit_above_the_process_s_group() {
        let slice = "/sys/fs/cgroup/user.slice/user-1000.slice";
        let own = format!("{slice}/user@1000.service/app.slice/krita.scope");
        let f = |folder: &str, name: &str| format!("{folder}/{name}");
        let (max, current, stat, own_max, own_current) =
            (f(slice, "memory.max"), f(slice, "memory.current"), f(slice, "memory.stat"), f(&own, "memory.max"), f(&own, "memory.current"));
        let files = [
            ("/proc/meminfo", MEMINFO),
            ("/proc/self/cgroup", "0::/user.slice/user-1000.slice/user@1000.service/app.slice/krita.scope\n"),
            ("/proc/self/mountinfo", V2_MOUNT),
            (&*max, "6442450944\n"),
            (&*current, "5368709120\n"),
            (&*stat, "anon 2147483648\nfile 3221225472\ninactive_file 2147483648\nactive_file 1073741824\nslab_reclaimable 0\n"),
            (&*own_max, "max\n"),
            (&*own_current, "1073741824\n"),
        ];
        let room = room_of(&files).unwrap();
        assert_eq!(room.bytes, 4 * GIB);
        assert!(room.says.contains("6442450944") && room.says.contains(&max), "{}", room.says);
        // A limit of the own group counts too, and so does one beyond which it is only held up.
        let high = f(&own, "memory.high");
        let room = room_of(&[&files[..], &[(&*high, "2147483648\n")]].concat()).unwrap();
        assert_eq!(room.bytes, GIB);
        assert!(room.says.contains(&high), "{}", room.says);
    }

    /// Docker with its own namespace of control groups: the mount is the container's group.
    #[test]
    fn a_container_of_version_2() {
        let files = [
            ("/proc/self/cgroup", "0::/\n"),
            ("/proc/self/mountinfo", V2_MOUNT),
            ("/sys/fs/cgroup/memory.max", "1610612736\n"),
            ("/sys/fs/cgroup/memory.current", "536870912\n"),
        ];
        assert_eq!(room_of(&files).unwrap().bytes, GIB);
        // Moved out of what its namespace shows.
        assert_eq!(room_of(&[&[("/proc/self/cgroup", "0::/../other\n")], &files[1..]].concat()).unwrap().bytes, GIB);
    }

    /// Both versions mounted, memory with the first: its numbers count.
    #[test]
    fn version_1() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:15 master:3 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
        let files = [
            ("/proc/self/cgroup", "9:name=systemd:/\n4:memory:/jobs/a:b\n1:cpu:/\n0::/\n"),
            ("/proc/self/mountinfo", mounts),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "5368709120\n"),
            ("/sys/fs/cgroup/memory/jobs/memory.limit_in_bytes", "9223372036854771712\n"),
            ("/sys/fs/cgroup/memory/jobs/memory.usage_in_bytes", "1073741824\n"),
            ("/sys/fs/cgroup/memory/jobs/a:b/memory.limit_in_bytes", "1610612736\n"),
            ("/sys/fs/cgroup/memory/jobs/a:b/memory.usage_in_bytes", "1073741824\n"),
            (
                "/sys/fs/cgroup/memory/jobs/a:b/memory.stat",
                "cache 536870912\nrss 536870912\ninactive_file 1\nactive_file 1\ntotal_inactive_file 268435456\ntotal_active_file 268435456\n",
            ),
        ];
        let room = room_of(&files).unwrap();
        assert_eq!(room.bytes, GIB);
        assert!(room.says.contains("/sys/fs/cgroup/memory/jobs/a:b/memory.limit_in_bytes"), "{}", room.says);
    }

    /// Docker without a namespace of control groups: the process is told a path that its mount begins with.
    #[test]
    fn a_container_of_version_1_and_a_mount_with_a_space() {
        let mounts = "1174 1173 0:31 /docker/8a\\040b /sys/fs/my\\040cgroup ro,nosuid master:11 - cgroup cgroup rw,cpu,memory\n";
        let files = [
            ("/proc/self/cgroup", "4:cpu,memory:/docker/8a b/inner\n"),
            ("/proc/self/mountinfo", mounts),
            ("/sys/fs/my cgroup/memory.limit_in_bytes", "2147483648\n"),
            ("/sys/fs/my cgroup/memory.usage_in_bytes", "1073741824\n"),
            ("/sys/fs/my cgroup/inner/memory.limit_in_bytes", "1073741824\n"),
            ("/sys/fs/my cgroup/inner/memory.usage_in_bytes", "536870912\n"),
        ];
        assert_eq!(room_of(&files).unwrap().bytes, GIB / 2);
        // A path that only begins with the same letters is none below the mount.
        let other = [&[("/proc/self/cgroup", "4:memory:/docker/8a bc\n")], &files[1..]].concat();
        assert_eq!(room_of(&other).unwrap().bytes, GIB);
    }

    #[test]
    fn sizes_of_the_variable() {
        for (text, want) in [("1", 1), ("1500000000", 1_500_000_000), ("512M", 512 << 20), ("6G", 6 << 30), ("1t", 1 << 40), ("3k", 3072)] {
            assert_eq!(parse(text).unwrap(), want, "{text}");
        }
        for text in ["", "0", "G", "-1", "1.5G", "6 G", "6GB", "17000000T", "99999999999999999999", "ä"] {
            let error = parse(text).unwrap_err();
            assert!(error.kind() == crate::Kind::InvalidArgument && error.to_string().contains(LIMIT_VARIABLE), "{text}: {error}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_some_room() {
        let room = room().unwrap();
        assert!(room.bytes > 0 && room.bytes < 1 << 50 && room.says.contains("bytes"), "{room:?}");
    }
}
