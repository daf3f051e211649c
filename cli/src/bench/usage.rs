//! What a process has used: CPU time and resident memory, as the kernel counts.

use std::{fs, io, path::Path, time::Duration};

/// `utime` and `stime` count in these, on every Linux that this runs on.
const TICK: Duration = Duration::from_millis(10);

/// CPU time at one instant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cpu {
    /// In ticks, of all threads that ever lived.
    ticks: Duration,
    /// In nanoseconds, of those that live.
    exact: Duration,
}

impl Cpu {
    /// Reads it.
    pub(super) fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let odd = || io::Error::other(format!("/proc/{pid}/stat is not as expected"));
        // The name in parentheses may hold anything, so count from its end.
        let (_, fields) = stat.rsplit_once(')').ok_or_else(odd)?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let field = |at: usize| fields.get(at).and_then(|f| f.parse::<u32>().ok());
        let ticks = field(11).zip(field(12)).map(|(user, system)| user + system);
        let mut exact = Duration::ZERO;
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let path = thread?.path().join("schedstat");
            exact += on_cpu(&path).unwrap_or_default();
        }
        Ok(Self {
            ticks: TICK * ticks.ok_or_else(odd)?,
            exact,
        })
    }

    /// How much was used since: exact, unless a thread that ended took its count
    /// with it; both are lower bounds.
    pub(super) fn since(self, before: Self) -> Duration {
        let exact = self.exact.saturating_sub(before.exact);
        exact.max(self.ticks.saturating_sub(before.ticks).saturating_sub(TICK))
    }
}

fn on_cpu(schedstat: &Path) -> Option<Duration> {
    let text = fs::read_to_string(schedstat).ok()?;
    text.split_whitespace()
        .next()?
        .parse()
        .ok()
        .map(Duration::from_nanos)
}

/// Resident memory in KiB.
pub(super) fn resident_kib(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("/proc/{pid}/status has no VmRSS")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_up_as_cpu_time() {
        let pid = std::process::id();
        let before = Cpu::of(pid).unwrap();
        let mut used = Duration::ZERO;
        let mut sum = 0_u64;
        while used < Duration::from_millis(30) {
            sum = (0..100_000).fold(sum, |sum, n| sum.wrapping_mul(31).wrapping_add(n));
            std::hint::black_box(sum);
            used = Cpu::of(pid).unwrap().since(before);
        }
        assert!(resident_kib(pid).unwrap() > 100);
    }
}
