//! Limits that a child process of ours sets itself, before it reads anything that a
//! person sent.
//!
//! What always holds: it can write no file and leave no core dump, and its memory, CPU
//! time and open files are bounded by the kernel.

use rustix::{
    process::{Resource, Rlimit, setrlimit},
    time::{ClockId, clock_gettime},
};

/// Open files: the standard streams and a font.
const FILES: u64 = 64;

/// What the process may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnLimits {
    /// Bytes that it may allocate. Mapped files do not count.
    pub(crate) memory_bytes: u64,
    /// CPU time; at least one second.
    pub(crate) cpu_seconds: u64,
}

/// CPU time that this process has used, in milliseconds.
pub(crate) fn cpu_ms() -> u64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let ms = used.tv_sec.saturating_mul(1_000) + used.tv_nsec / 1_000_000;
    u64::try_from(ms).unwrap_or(0)
}

impl OwnLimits {
    /// Limits the whole process, for ever.
    pub(crate) fn apply(self) -> rustix::io::Result<()> {
        let cpu_seconds = self.cpu_seconds.max(1);
        // The second limit is where SIGKILL follows SIGXCPU.
        for (resource, current, maximum) in [
            (Resource::Data, self.memory_bytes, self.memory_bytes),
            (Resource::Cpu, cpu_seconds, cpu_seconds + 1),
            (Resource::Nofile, FILES, FILES),
            (Resource::Fsize, 0, 0),
            (Resource::Core, 0, 0),
        ] {
            let limit = Rlimit {
                current: Some(current),
                maximum: Some(maximum),
            };
            setrlimit(resource, limit)?;
        }
        Ok(())
    }
}
