//! The machine a run is on.

use crate::pages;
use crate::record::Environment;
use std::fs;
use std::path::Path;

/// Looks around; `scratch` is where the files are.
pub(super) fn look(scratch: &Path) -> Environment {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    Environment {
        wormhole: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
        cores: std::thread::available_parallelism()
            .ok()
            .and_then(|cores| u32::try_from(cores.get()).ok())
            .unwrap_or(1),
        memory_bytes: field(&read("/proc/meminfo"), "MemTotal")
            .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
            .unwrap_or(0)
            * 1024,
        file_system: file_system(&read("/proc/self/mountinfo"), scratch),
        drops_page_cache: pages::drop_all(scratch),
        load: read("/proc/loadavg")
            .split(' ')
            .next()
            .and_then(|load| load.parse().ok())
            .unwrap_or(0.0),
    }
}

/// The value behind `name :` in one of the kernel's lists.
fn field(text: &str, name: &str) -> Option<String> {
    let line = text
        .lines()
        .find(|line| line.split(':').next().map(str::trim) == Some(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The type of the file system that holds `path`: of the longest mount point above it.
fn file_system(mounts: &str, path: &Path) -> String {
    let mut best = (0, "unknown");
    for line in mounts.lines() {
        let Some((front, back)) = line.split_once(" - ") else {
            continue;
        };
        let (Some(point), Some(kind)) = (front.split(' ').nth(4), back.split(' ').next()) else {
            continue;
        };
        // A later mount hides an earlier one at the same place.
        if path.starts_with(point) && point.len() >= best.0 {
            best = (point.len(), kind);
        }
    }
    best.1.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_is_that_of_the_innermost_mount() {
        let mounts = "\
22 1 254:0 / / rw shared:1 - ext4 /dev/vda rw
30 22 0:26 / /var/tmp rw,nosuid shared:9 master:2 - tmpfs tmpfs rw
31 22 0:27 / /var rw - xfs /dev/vdb rw
";
        let of = |path| file_system(mounts, Path::new(path));
        assert_eq!(of("/var/tmp/x"), "tmpfs");
        assert_eq!(of("/var/lib"), "xfs");
        assert_eq!(of("/variety"), "ext4");
        assert_eq!(file_system("", Path::new("/")), "unknown");
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "MemTotalX: 1 kB\nMemTotal:       24 kB\n";
        assert_eq!(field(text, "MemTotal").as_deref(), Some("24 kB"));
        assert_eq!(field(text, "Mem"), None);
    }

    #[test]
    fn this_machine_has_memory_and_cores() {
        let folder = tempfile::tempdir().expect("a folder");
        let machine = look(folder.path());
        assert!(machine.memory_bytes > 0 && machine.cores > 0);
        assert!(!machine.kernel.is_empty() && machine.file_system != "unknown");
    }
}
