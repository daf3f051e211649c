//! Settings of bodies that persons send.

use clap::Args;
use settings::{Counts, Faults, Sizes};

const UPLOADS: Counts<usize> = Counts::new(1, 4_096);
const MEMORY: Sizes = Sizes::new(10 << 20, 1 << 36);
const SPEED: Sizes = Sizes::new(1, 1 << 30);

/// How many bodies may be under way, and how slow they may be.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Uploads")]
pub struct UploadLimits {
    /// Uploads under way, of all persons; the last quarter is kept for persons who have
    /// none; one more is answered 503
    #[arg(
        id = "uploads",
        long = "uploads",
        value_name = "COUNT",
        default_value = "128",
        value_parser = UPLOADS.parser()
    )]
    pub count: usize,
    /// Uploads under way of one person; one more is answered 429
    #[arg(
        id = "uploads_per_user",
        long = "uploads-per-user",
        value_name = "COUNT",
        default_value = "8",
        value_parser = UPLOADS.parser()
    )]
    pub per_user: usize,
    /// Memory of all uploads under way: each takes its length, 10 MiB at most; one more
    /// is answered 503
    #[arg(
        id = "upload_memory",
        long = "upload-memory",
        value_name = "SIZE",
        default_value = "256MiB",
        value_parser = MEMORY.parser()
    )]
    pub memory: u64,
    /// Bytes that an upload sends per second at least, measured over 10 s; a slower one
    /// is answered 408
    #[arg(
        id = "upload_speed",
        long = "upload-speed",
        value_name = "SIZE",
        default_value = "8KiB",
        value_parser = SPEED.parser()
    )]
    pub speed: u64,
}

impl Default for UploadLimits {
    fn default() -> Self {
        settings::defaults()
    }
}

impl UploadLimits {
    pub(super) fn check(&self, faults: &mut Faults) {
        faults.check("uploads", &self.count, &UPLOADS);
        faults.check("uploads-per-user", &self.per_user, &UPLOADS);
        faults.check("upload-memory", &self.memory, &MEMORY);
        faults.check("upload-speed", &self.speed, &SPEED);
    }
}
