//! What a run met.

macro_rules! report {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// How often each thing happened.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        pub struct Report {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Report {
            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)+
            }

            /// What never happened: a simulation that never meets a danger proves
            /// nothing about it.
            pub fn dangers_not_met(&self) -> Vec<&'static str> {
                let all = [$((stringify!($name), self.$name)),+];
                let never = all.into_iter().filter(|(_, times)| *times == 0);
                never.map(|(name, _)| name).collect()
            }
        }
    };
}

report! {
    /// Publishes that a publisher began.
    published,
    /// Floods of a service that takes all it can get.
    floods,
    /// Refusals of that service, for what it held.
    shares_refused,
    /// Refusals of the other service, for what it held itself.
    over_share,
    /// Acks that were checked at the end.
    acked,
    /// Events that reached a page.
    seen,
    /// Deaths of the notifier.
    crashes,
    /// Older copies of the disk put back.
    restored,
    /// Disks wiped.
    wiped,
    /// Links cut.
    cuts,
    /// Links that one side took for live long after they were cut.
    half_open,
    /// Deaths of an edge.
    edge_deaths,
    /// Links that a newer one of the same edge replaced.
    replaced,
    /// Batches that the disk had no room for.
    full,
    /// Syncs that took very long.
    slow_syncs,
    /// Syncs that failed.
    failed_syncs,
    /// Publishes answered by an earlier one.
    duplicates,
    /// Keys used again with another body.
    reused_keys,
    /// Gaps reported.
    gaps,
    /// Gaps because the history was another.
    forks,
    /// Sockets that took no more.
    blocked,
    /// Events that did not fit into a queue.
    dropped,
    /// Events replayed.
    replayed,
    /// Live events left out for want of credit.
    left_out,
    /// Pages that needed the disk.
    reads,
    /// Sessions closed by their edge.
    closed,
    /// Streams trimmed by age.
    aged,
    /// Streams left and joined again.
    resubscribed,
    /// Queues left for another, or for none.
    switched,
    /// Jobs begun.
    jobs,
    /// Jobs that failed because they went silent.
    stalled,
    /// Jobs with a worker that came back after that.
    late,
    /// Progress that never went out, because newer came.
    collapsed,
    /// Progress that came after the end of its job.
    late_progress,
    /// Receipts that were sent to publishers.
    receipts,
    /// Events that expired before anybody had them.
    expired,
    /// Notifications taken from other devices.
    retracted,
    /// Users who left.
    left,
    /// Watches that fell behind.
    watches_behind,
    /// Links that a namesake took from an edge.
    namesakes,
    /// Clients that came back while their edge still had their last socket.
    vanished,
    /// Sessions that made room for a newer one of their user.
    sessions_replaced,
    /// Sessions that ended with their token.
    expired_tokens,
    /// Times that the wall clock was set forward.
    set_forward,
    /// Times that it was set back.
    set_back,
    /// Acks of a shard's owner that were checked at the end.
    cluster_acked,
    /// Times that a process became the owner.
    cluster_taken,
    /// Times that one ceased to be it while it ran.
    cluster_moved,
    /// Planned moves.
    cluster_released,
    /// Deaths of a process.
    cluster_killed,
    /// Processes stopped for a while.
    cluster_stopped,
    /// Processes cut off from the engine.
    cluster_cut_off,
    /// Processes that received no changes any more.
    cluster_silent,
    /// Calls whose answer was lost.
    cluster_unknown,
    /// Ends that the engine forgot.
    cluster_lost,
    /// Those that only a living owner could put back.
    cluster_protected,
    /// Logs that the engine forgot wholly.
    cluster_deleted,
    /// Forks made in the engine.
    cluster_forked,
    /// Times that the engine hid its newest entries.
    cluster_hidden,
    /// Times that it began or ceased to store whatever came.
    cluster_confused,
    /// Times that it had no room.
    cluster_full,
    /// Losses that a process noticed.
    cluster_regressed,
    /// Entries put back.
    cluster_healed,
    /// Forks that a process noticed.
    cluster_forks,
    /// Entries that did not count.
    cluster_voids,
}
