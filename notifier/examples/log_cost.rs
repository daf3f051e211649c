//! What the embedded log costs: CPU of the whole process and wall time for each
//! record, by batch size, with and without room reserved ahead.
//!
//! `cargo run --release -p notifier --example log_cost [directory]`. Use a
//! directory on the disk in question: in memory a sync costs nothing.

use std::{
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Instant,
};

use bytes::Bytes;
use delivery::{DedupeKey, Placement, Record, StreamName};
use notifier::log::{
    Log,
    embedded::{Embedded, Options},
};
use rustix::time::{ClockId, clock_gettime};

const ENVELOPE_BYTES: usize = 300;
const STREAMS: u64 = 1000;

/// CPU time of this process in microseconds, user and system, of all threads.
fn cpu_us() -> f64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    spent.tv_sec as f64 * 1e6 + spent.tv_nsec as f64 / 1e3
}

struct Publisher {
    streams: Vec<StreamName>,
    envelope: Bytes,
    lsn: u64,
}

impl Publisher {
    fn batch(&mut self, count: usize) -> Vec<Record> {
        let records = (0..count).map(|_| {
            let stream = self.lsn % STREAMS;
            let offset = self.lsn / STREAMS + 1;
            self.lsn += 1;
            Record {
                lsn: self.lsn,
                id: u128::from(self.lsn),
                placements: [Placement {
                    stream: self.streams[stream as usize].clone(),
                    offset,
                }]
                .into(),
                check: self.lsn as u32,
                job: None,
                dedupe: Some(DedupeKey {
                    key: u128::from(self.lsn),
                    body: 1,
                }),
                envelope: self.envelope.clone(),
            }
        });
        records.collect()
    }
}

#[tokio::main]
async fn main() {
    let base = std::env::args_os().nth(1).map(PathBuf::from);
    let base = base.unwrap_or_else(std::env::temp_dir);
    println!("batch  reserve  batches   µs CPU/record  µs wall/batch  records/s   bytes/record");
    for size in [1, 8, 64, 512] {
        bare(&base, size, 0);
        bare(&base, size, 4 << 20);
        for preallocate_bytes in [0, 1 << 20, 4 << 20, 16 << 20] {
            let batches = (40_000 / size).clamp(300, 4000);
            measure(&base, size, preallocate_bytes, batches).await;
        }
    }
    reading(&base).await;
}

fn publisher() -> Publisher {
    Publisher {
        streams: (0..STREAMS)
            .map(|at| format!("user:{at:08}").into())
            .collect(),
        envelope: Bytes::from(vec![b'e'; ENVELOPE_BYTES]),
        lsn: 0,
    }
}

async fn measure(base: &Path, size: usize, preallocate_bytes: u64, batches: usize) {
    let dir = base.join(format!("belfry-log-cost-{}", std::process::id()));
    let options = Options {
        preallocate_bytes,
        ..Options::default()
    };
    let log = Embedded::open(&dir, options).expect("a directory that can be written");
    let mut publisher = publisher();
    let warm_up = publisher.batch(size);
    log.append(warm_up).await.expect("a disk with space");
    // What the caller's own work costs, to be taken off.
    let own = {
        let (mut other, start) = (self::publisher(), cpu_us());
        for _ in 0..batches {
            std::hint::black_box(other.batch(size));
        }
        cpu_us() - start
    };
    let (cpu, wall) = (cpu_us(), Instant::now());
    for _ in 0..batches {
        let batch = publisher.batch(size);
        log.append(batch).await.expect("a disk with space");
    }
    let (cpu, wall) = (cpu_us() - cpu - own, wall.elapsed().as_secs_f64() * 1e6);
    let records = (batches * size) as f64;
    let bytes = log.stats().bytes as f64;
    println!(
        "{size:5} {:5} KiB {batches:8} {:15.2} {:14.1} {:10.0} {:14.0}",
        preallocate_bytes >> 10,
        cpu / records,
        wall / batches as f64,
        records / wall * 1e6,
        bytes / records,
    );
    drop(log);
    std::fs::remove_dir_all(dir).expect("the directory that was just made");
}

/// The floor: the same bytes written to a bare file and synced.
fn bare(base: &Path, size: usize, reserve: usize) {
    let path = base.join(format!("belfry-log-cost-{}", std::process::id()));
    let file = std::fs::File::create(&path).expect("a directory that can be written");
    let (batch, zeroes) = (vec![7; 56 + 380 * size], vec![0; reserve]);
    let batches = (40_000 / size).clamp(300, 4000);
    let (mut end, mut reserved) = (0, 0);
    let (cpu, wall) = (cpu_us(), Instant::now());
    for _ in 0..batches {
        if reserve > 0 && end + batch.len() > reserved {
            file.write_all_at(&zeroes, reserved as u64)
                .expect("a disk with space");
            file.sync_data().expect("a disk that works");
            reserved += reserve;
        }
        file.write_all_at(&batch, end as u64)
            .expect("a disk with space");
        file.sync_data().expect("a disk that works");
        end += batch.len();
    }
    let (cpu, wall) = (cpu_us() - cpu, wall.elapsed().as_secs_f64() * 1e6);
    println!(
        "{size:5} {:5} KiB {batches:8} {:15.2} {:14.1}  a bare file",
        reserve >> 10,
        cpu / (batches * size) as f64,
        wall / batches as f64,
    );
    std::fs::remove_file(path).expect("the file that was just made");
}

async fn reading(base: &Path) {
    let dir = base.join(format!("belfry-log-cost-{}", std::process::id()));
    let log = Embedded::open(&dir, Options::default()).expect("a directory that can be written");
    let mut publisher = publisher();
    for _ in 0..400 {
        let batch = publisher.batch(500);
        log.append(batch).await.expect("a disk with space");
    }
    let (cpu, mut events) = (cpu_us(), 0);
    for stream in &publisher.streams {
        let page = log.read(stream.clone(), 1, 256, 64 << 10).await;
        events += page.expect("what was just written").len();
    }
    println!(
        "read   {:.2} µs CPU/event, {events} events in pages of 200, scattered",
        { (cpu_us() - cpu) / events as f64 }
    );
    drop(log);
    let (cpu, wall) = (cpu_us(), Instant::now());
    let log = Embedded::open(&dir, Options::default()).expect("what was just written");
    let stats = log.stats();
    println!(
        "open   {} records, {} MiB: {:.0} ms CPU, {:.0} ms wall",
        stats.records,
        stats.bytes >> 20,
        (cpu_us() - cpu) / 1e3,
        wall.elapsed().as_secs_f64() * 1e3,
    );
    drop(log);
    std::fs::remove_dir_all(dir).expect("the directory that was just made");
}
