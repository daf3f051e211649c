//! A hub whose log is always fast and never full, on a clock of the test's own.

use std::sync::Arc;

use bytes::Bytes;
use delivery::{
    Credential, JobChange, JobMark, Limits, Millis, Record, Recovered, RecoveredLease, Rights,
    StreamName, StreamPattern, Verdict,
    hub::{
        Announcement, Hub, Input, Kind, Output, Publish, Receipt, Reply, Subject, Ticket, WatchEnd,
        WatchId,
    },
    link::{Ephemeral, Interest, Member, Presence, ReceiptState, SessionId, ToEdge, ToHub},
    shares::Exhausted,
};

pub(crate) const EDGE: u64 = 1;
pub(crate) const OTHER_EDGE: u64 = 2;

/// What came out, sorted by whom it concerns.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) replies: Vec<(Ticket, Reply)>,
    pub(crate) appended: Vec<Record>,
    pub(crate) announced: Vec<Announcement>,
    pub(crate) sent: Vec<(u64, ToEdge)>,
    pub(crate) receipts: Vec<(WatchId, Vec<Receipt>, Vec<u128>)>,
    pub(crate) presence: Vec<(WatchId, Vec<Member>, bool)>,
    pub(crate) ended_watches: Vec<(WatchId, WatchEnd)>,
    pub(crate) denied: Vec<Option<StreamName>>,
    /// Public ids of sessions that made room for another one.
    pub(crate) replaced: Vec<Arc<str>>,
    pub(crate) exhausted: Vec<Exhausted>,
}

impl Outcome {
    /// Envelopes of ephemeral events that went out, as text.
    pub(crate) fn ephemeral(&self) -> Vec<String> {
        let events = self.sent.iter().filter_map(|(_, message)| match message {
            ToEdge::Ephemeral { event, .. } => Some(text(event)),
            _ => None,
        });
        events.collect()
    }

    /// Presence of streams that edges were reported.
    pub(crate) fn stream_presence(&self) -> Vec<(u64, Presence)> {
        let reported = self
            .sent
            .iter()
            .filter_map(|(edge, message)| match message {
                ToEdge::Presence(presence) | ToEdge::PresenceSnapshot { presence, .. } => {
                    Some((*edge, presence.clone()))
                }
                _ => None,
            });
        reported.collect()
    }
}

pub(crate) fn text(event: &Ephemeral) -> String {
    String::from_utf8_lossy(&event.payload).into_owned()
}

pub(crate) struct World {
    pub(crate) hub: Hub,
    pub(crate) now: Millis,
    limits: Limits,
    /// Records that are durable.
    pub(crate) log: Vec<Record>,
    /// While false, the log answers nothing.
    pub(crate) log_runs: bool,
    waiting: Vec<Record>,
    /// While false, watches take no update.
    pub(crate) watches_read: bool,
    next: u64,
}

impl World {
    pub(crate) fn new(limits: Limits) -> Self {
        let recovered = Recovered {
            epoch: 7,
            ..Recovered::default()
        };
        Self {
            hub: Hub::new(limits.clone(), recovered, 0),
            now: 0,
            limits,
            log: Vec::new(),
            log_runs: true,
            waiting: Vec::new(),
            watches_read: true,
            next: 0,
        }
    }

    /// The notifier dies and starts again, later, from what is durable.
    pub(crate) fn restart(&mut self) {
        let mut leases: Vec<RecoveredLease> = Vec::new();
        for record in &self.log {
            let Some(JobMark { job, change }) = &record.job else {
                continue;
            };
            leases.retain(|lease| lease.job != *job);
            if let JobChange::Leased { lease_ms } = change {
                leases.push(RecoveredLease {
                    job: job.clone(),
                    publisher: "p".into(),
                    lease_ms: *lease_ms,
                    streams: record.placements.iter().map(|p| p.stream.clone()).collect(),
                    envelope: record.envelope.clone(),
                });
            }
        }
        let recovered = Recovered {
            epoch: 7,
            last_lsn: self.log.len() as u64,
            leases,
            ..Recovered::default()
        };
        self.waiting.clear();
        self.hub = Hub::new(self.limits.clone(), recovered, self.now);
    }

    /// Feeds the hub, and whatever it asks for on its own behalf.
    pub(crate) fn feed(&mut self, input: Input) -> Outcome {
        let mut outcome = Outcome::default();
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut out = Vec::new();
            self.hub.handle(input, self.now, &mut out);
            for output in out {
                self.on_output(output, &mut outcome, &mut inputs);
            }
            if inputs.is_empty() && self.log_runs && !self.waiting.is_empty() {
                self.log.append(&mut self.waiting);
                let upto = self.log.len() as u64;
                inputs.push(Input::Synced {
                    upto,
                    trimmed: Vec::new(),
                });
            }
        }
        outcome
    }

    fn on_output(&mut self, output: Output, outcome: &mut Outcome, inputs: &mut Vec<Input>) {
        match output {
            Output::Append(record) => {
                outcome.appended.push(record.clone());
                self.waiting.push(record);
            }
            Output::Reply { ticket, reply } => outcome.replies.push((ticket, reply)),
            Output::Announce(announcement) => {
                inputs.push(self.announce(&announcement));
                outcome.announced.push(announcement);
            }
            Output::Send { link, message } => outcome.sent.push((link, message)),
            Output::Receipts {
                watch,
                receipts,
                unknown,
                ..
            } => {
                outcome.receipts.push((watch, receipts, unknown));
                if self.watches_read {
                    inputs.push(Input::WatchTaken { watch });
                }
            }
            Output::Presence {
                watch,
                members,
                snapshot,
                ..
            } => {
                outcome.presence.push((watch, members, snapshot));
                if self.watches_read {
                    inputs.push(Input::WatchTaken { watch });
                }
            }
            Output::EndWatch { watch, reason } => outcome.ended_watches.push((watch, reason)),
            Output::Denied { stream, .. } => outcome.denied.push(stream),
            Output::SessionReplaced { public_id, .. } => outcome.replaced.push(public_id),
            Output::Exhausted(exhausted) => outcome.exhausted.push(exhausted),
            Output::Read { .. } | Output::Trim { .. } => {}
            Output::End { link, fault } => panic!("link {link} ended: {fault:?}"),
        }
    }

    fn announce(&mut self, announcement: &Announcement) -> Input {
        let publish = match announcement {
            Announcement::Stalled { job, streams, .. } => Publish {
                streams: streams.clone(),
                job: Some(job.clone()),
                ..self.stored("stalled", Some(JobChange::Ended))
            },
            Announcement::Retract { user, event, .. } => {
                let key = format!("retract/{event}");
                Publish {
                    streams: [format!("user:{user}").into()].into(),
                    ..self.progress(&key, &key)
                }
            }
        };
        Input::Publish {
            ticket: u64::MAX,
            publish,
        }
    }

    /// Lets time pass as a driver would.
    pub(crate) fn pass(&mut self, until: Millis) -> Outcome {
        let mut all = Outcome::default();
        while let Some(due) = self.hub.next_deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            let outcome = self.feed(Input::Deadline);
            all.replies.extend(outcome.replies);
            all.appended.extend(outcome.appended);
            all.announced.extend(outcome.announced);
            all.sent.extend(outcome.sent);
            all.receipts.extend(outcome.receipts);
            all.presence.extend(outcome.presence);
            let next = self.hub.next_deadline();
            assert!(next.is_none_or(|next| next > self.now), "stuck at {due}");
        }
        self.now = until;
        all
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A stored event for `user:u1`.
    pub(crate) fn stored(&mut self, what: &str, change: Option<JobChange>) -> Publish {
        Publish {
            id: u128::from(self.number()),
            streams: ["user:u1".into()].into(),
            check: 1,
            dedupe: None,
            envelope: Bytes::copy_from_slice(what.as_bytes()),
            publisher: "p".into(),
            job: Some("p\0job".into()),
            lives_ms: None,
            kind: Kind::Stored { change },
        }
    }

    pub(crate) fn leased(&mut self, lease_ms: u64) -> Publish {
        self.stored("started", Some(JobChange::Leased { lease_ms }))
    }

    /// An ephemeral event for `user:u1`.
    pub(crate) fn progress(&mut self, key: &str, what: &str) -> Publish {
        let collapse_key = Some(key.into());
        Publish {
            kind: Kind::Ephemeral { collapse_key },
            ..self.stored(what, None)
        }
    }

    pub(crate) fn publish(&mut self, publish: Publish) -> Outcome {
        let ticket = self.number();
        self.feed(Input::Publish { ticket, publish })
    }

    pub(crate) fn attach(&mut self, link: u64) {
        self.feed(Input::Attach {
            link,
            name: format!("edge-{link}").into(),
            deliveries: 1_000,
            bytes: 1 << 20,
        });
    }

    /// A session of `user`, which follows its own stream, `everyone` and queue q.
    pub(crate) fn open(&mut self, link: u64, session: SessionId, user: &str) -> Outcome {
        let streams = [format!("user:{user}"), "everyone".into(), "queue:q".into()];
        let interests = streams.map(|stream| Interest {
            stream: stream.into(),
            from: None,
        });
        self.edge_sends(
            link,
            ToHub::Open {
                session,
                token: Ok(credential(user)),
                public_id: format!("session-{session}").into(),
                device: format!("device-{session}").into(),
                interests: interests.into(),
            },
        )
    }

    pub(crate) fn edge_sends(&mut self, link: u64, message: ToHub<Verdict>) -> Outcome {
        self.feed(Input::FromEdge { link, message })
    }

    pub(crate) fn report(&mut self, session: u64, event: u128, state: ReceiptState) -> Outcome {
        let receipts = vec![(event, state)];
        self.edge_sends(EDGE, ToHub::Receipts { session, receipts })
    }

    pub(crate) fn watch(&mut self, watch: WatchId, publisher: &str, subject: Subject) -> Outcome {
        self.feed(Input::WatchReceipts {
            watch,
            publisher: publisher.into(),
            subject,
        })
    }
}

/// What a token allows that grants every queue for an hour.
pub(crate) fn rights(user: &str) -> Rights {
    let streams = [
        StreamPattern::Exact(format!("user:{user}").into()),
        StreamPattern::Exact("everyone".into()),
        StreamPattern::Prefix("queue:".into()),
    ];
    Rights {
        user: user.into(),
        streams: streams.into(),
        exp_unix_ms: 0,
        ends_in_ms: 3_600_000,
    }
}

pub(crate) fn credential(user: &str) -> Credential {
    Credential {
        rights: rights(user),
        token_id: None,
        digest: 1,
        key: 1,
    }
}

pub(crate) fn queue() -> StreamName {
    Arc::from("queue:q")
}
