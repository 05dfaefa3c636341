//! What this machine has, for the advert. Graphics hardware is not looked for: without it an Island
//! is in the lowest tier.

use archipelag_protocol::{advert::Hardware, pricing::HardwareTier};

/// Cores and memory as the operating system tells them; 0 MB when it doesn't.
#[must_use]
pub(crate) fn detect() -> Hardware {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = std::fs::read_to_string("/proc/meminfo").ok();
    Hardware {
        tier: HardwareTier::CpuOnly,
        cpu_cores: u32::try_from(cores).unwrap_or(u32::MAX),
        ram_mb: memory.as_deref().and_then(total_mb).unwrap_or(0),
        vram_mb: 0,
        memory_bandwidth_mbps: 0,
    }
}

/// `MemTotal` of Linux's `/proc/meminfo`, which is in KiB.
fn total_mb(meminfo: &str) -> Option<u32> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    u32::try_from(kib / 1024).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_kernels_words() {
        assert_eq!(total_mb("MemTotal:       16315596 kB\nMemFree: 1 kB\n"), Some(15933));
        assert_eq!(total_mb("MemFree: 1 kB"), None);
        assert_eq!(total_mb("MemTotal: many kB"), None);
        assert!(detect().cpu_cores >= 1);
    }
}
