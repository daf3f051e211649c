//! What a member does, one rule at a time, over an engine that answers at once.

use bytes::Bytes;
use cluster::{
    chain::{Header, Tip},
    member::{
        AppendResult, Config, Input, KeyState, Member, Output, PutResult, Replica, Reply, Seq,
        SizeResult,
    },
};

#[derive(Default)]
struct Copy {
    entries: Vec<Bytes>,
    seq: Seq,
}

impl Replica for Copy {
    fn tip(&self) -> Tip {
        self.header(self.entries.len() as u64)
            .map(|header| header.tip())
            .unwrap_or_default()
    }

    fn seq(&self) -> Seq {
        self.seq
    }

    fn header(&self, number: u64) -> Option<Header> {
        let entry = self.entry(number)?;
        Header::decode(&entry).ok().map(|(header, _)| header)
    }

    fn entry(&self, number: u64) -> Option<Bytes> {
        let at = usize::try_from(number.checked_sub(1)?).ok()?;
        self.entries.get(at).cloned()
    }
}

#[derive(Default)]
struct Engine {
    entries: Vec<Bytes>,
    key: (u64, Option<KeyState>),
    /// What the next appends are answered, and whether they are stored.
    answers: Vec<(AppendResult, bool)>,
    appends: usize,
}

struct Process {
    member: Member,
    copy: Copy,
    log: Vec<Output>,
    follow: Option<(u64, Seq)>,
}

impl Process {
    fn new(name: &str) -> Self {
        let copy = Copy::default();
        Self {
            member: Member::new(Config::new(name, "10.0.0.1:7401", 7), &copy),
            copy,
            log: Vec::new(),
            follow: None,
        }
    }

    /// Takes an input and everything that follows from it.
    fn take(&mut self, input: Input, now: u64, engine: &mut Engine) {
        let mut inputs = vec![input];
        while !inputs.is_empty() {
            let mut out = Vec::new();
            let input = inputs.remove(0);
            self.member.handle(input, now, &self.copy, &mut out);
            for output in out {
                inputs.extend(self.act(&output, engine));
                self.log.push(output);
            }
            let due = self.follow.filter(|_| inputs.is_empty());
            if let Some((call, seq)) = due
                && let Some(bytes) = engine.entries.get(seq as usize - 1).cloned()
            {
                self.follow = Some((call, seq + 1));
                inputs.push(Input::Entry { call, seq, bytes });
            }
        }
    }

    fn act(&mut self, output: &Output, engine: &mut Engine) -> Option<Input> {
        match output.clone() {
            Output::Put {
                call,
                state,
                expected,
            } => {
                let result = if expected == engine.key.0 {
                    engine.key = (expected + 1, Some(state));
                    PutResult::Written(expected + 1)
                } else {
                    PutResult::Conflict
                };
                Some(Input::Put { call, result })
            }
            Output::ReadKey => {
                let (revision, state) = engine.key.clone();
                Some(Input::Key { revision, state })
            }
            Output::ReadSize { call } | Output::CreateLog { call } => {
                let (first, end) = (1, engine.entries.len() as Seq);
                let size = SizeResult::Holds { first, end };
                Some(Input::Size { call, size })
            }
            Output::Follow { call, from } => {
                self.follow = Some((call, from));
                None
            }
            Output::Append { call, after, entry } => {
                let result = engine.append(after, entry);
                Some(Input::Appended { call, result })
            }
            Output::Store { seq, bytes } => {
                self.copy.entries.push(bytes);
                self.copy.seq = seq;
                None
            }
            Output::CutCopy { after } => {
                self.copy.entries.truncate(after as usize);
                None
            }
            Output::StopFollowing => {
                self.follow = None;
                None
            }
            Output::Reply(_)
            | Output::Serve { .. }
            | Output::StopServing
            | Output::VoidEntry { .. } => None,
        }
    }

    fn replies(&self) -> Vec<Reply> {
        let replies = self.log.iter().filter_map(|output| match output {
            Output::Reply(reply) => Some(*reply),
            _ => None,
        });
        replies.collect()
    }

    fn served(&self) -> Vec<(u64, u64)> {
        let served = self.log.iter().filter_map(|output| match output {
            Output::Serve { term, epoch } => Some((*term, *epoch)),
            _ => None,
        });
        served.collect()
    }
}

impl Engine {
    fn append(&mut self, after: Seq, entry: Bytes) -> AppendResult {
        self.appends += 1;
        let end = self.entries.len() as Seq;
        if after != end {
            return AppendResult::Moved;
        }
        let (answer, stored) = if self.answers.is_empty() {
            (AppendResult::At(end + 1), true)
        } else {
            self.answers.remove(0)
        };
        if stored {
            self.entries.push(entry);
        }
        answer
    }
}

fn batch(text: &'static str) -> Input {
    Input::Batch {
        count: 1,
        body: Bytes::from_static(text.as_bytes()),
    }
}

/// An owner with one batch stored, at 1,000 ms.
fn owner() -> (Process, Engine) {
    let (mut owner, mut engine) = (Process::new("a"), Engine::default());
    owner.take(Input::Deadline, 1_000, &mut engine);
    owner.take(batch("one"), 1_000, &mut engine);
    assert_eq!(owner.replies(), [Reply::Stored]);
    engine.appends = 0;
    (owner, engine)
}

#[test]
fn the_first_member_begins_the_log() {
    let (owner, engine) = owner();
    assert!(owner.member.is_owner());
    assert_eq!(owner.served().len(), 1);
    assert_eq!(engine.entries, owner.copy.entries);
    assert_eq!(
        (owner.member.tip().number, owner.member.tip().next_lsn),
        (2, 2)
    );
}

#[test]
fn an_append_without_an_answer_is_looked_for_before_it_is_repeated() {
    for (stored, appends) in [(true, 1), (false, 2)] {
        let (mut owner, mut engine) = owner();
        engine.answers.push((AppendResult::Unknown, stored));
        owner.take(batch("two"), 1_100, &mut engine);
        assert_eq!(owner.replies(), [Reply::Stored; 2]);
        assert_eq!(engine.appends, appends, "stored: {stored}");
        assert_eq!(engine.entries, owner.copy.entries);
    }
}

#[test]
fn a_place_that_is_not_the_next_is_not_believed() {
    let (mut owner, mut engine) = owner();
    engine.answers.push((AppendResult::At(9), false));
    owner.take(batch("two"), 1_100, &mut engine);
    assert_eq!(owner.replies(), [Reply::Stored; 2]);
    assert_eq!(engine.entries, owner.copy.entries);
}

#[test]
fn no_room_is_a_refusal_only_if_nothing_can_be_stored_any_more() {
    let (mut owner, mut engine) = owner();
    engine.answers.push((AppendResult::Full, false));
    owner.take(batch("two"), 1_100, &mut engine);
    assert_eq!(owner.replies(), [Reply::Stored, Reply::Refused]);
    engine.answers.push((AppendResult::Unknown, false));
    engine.answers.push((AppendResult::Full, false));
    owner.take(batch("three"), 1_200, &mut engine);
    assert_eq!(owner.replies().len(), 2, "it is not known yet");
    owner.take(Input::Deadline, 1_400, &mut engine);
    assert_eq!(owner.replies()[2..], [Reply::Stored]);
}

#[test]
fn an_owner_that_was_stopped_serves_nothing_when_it_wakes() {
    let (mut owner, mut engine) = owner();
    let before = owner.log.len();
    // The key is as it left it: nobody claimed the shard.
    owner.take(batch("two"), 7_001, &mut engine);
    assert_eq!(owner.log[before], Output::StopServing);
    assert_eq!(owner.replies().last(), Some(&Reply::Moved));
}

#[test]
fn a_standby_takes_over_when_the_key_stands_still() {
    let (mut first, mut engine) = owner();
    let mut second = Process::new("b");
    second.take(Input::Deadline, 50_000, &mut engine);
    second.take(Input::Deadline, 55_999, &mut engine);
    assert_eq!(second.served(), []);
    second.take(Input::Deadline, 56_000, &mut engine);
    let epoch = first.served()[0].1;
    assert_eq!(second.served(), [(2, epoch)], "nothing was lost");
    // The first one has not noticed; the log refuses it.
    first.take(batch("late"), 1_200, &mut engine);
    assert_eq!(first.replies().last(), Some(&Reply::Moved));
    assert!(!first.member.is_owner());
    assert_eq!(engine.entries, second.copy.entries);
}

#[test]
fn a_shard_that_is_given_up_is_taken_at_once() {
    let (mut first, mut engine) = owner();
    let mut second = Process::new("b");
    second.take(Input::Deadline, 1_000, &mut engine);
    first.take(Input::Release, 1_100, &mut engine);
    assert!(!first.member.is_owner());
    let (revision, state) = engine.key.clone();
    second.take(Input::Key { revision, state }, 1_101, &mut engine);
    assert_eq!(second.served(), [(2, first.served()[0].1)]);
}

#[test]
fn what_the_engine_lost_comes_back_from_the_owner_unnoticed() {
    let (mut owner, mut engine) = owner();
    owner.take(batch("two"), 1_100, &mut engine);
    let all = engine.entries.clone();
    engine.entries.clear();
    owner.take(batch("three"), 1_200, &mut engine);
    // The loss is noted in the key before anything is put back.
    owner.take(Input::Deadline, 1_600, &mut engine);
    assert_eq!(engine.entries[..3], all);
    assert_eq!(owner.replies(), [Reply::Stored; 3]);
    assert_eq!(owner.served().len(), 1, "the epoch stays");
}

#[test]
fn a_successor_that_finds_entries_lost_begins_a_new_epoch() {
    let (mut first, mut engine) = owner();
    let mut second = Process::new("b");
    second.take(Input::Deadline, 1_000, &mut engine);
    assert_eq!(second.copy.entries, first.copy.entries);
    engine.entries.pop();
    first.log.clear();
    let mut now = 7_000;
    while second.served().is_empty() && now < 120_000 {
        second.take(Input::Deadline, now, &mut engine);
        now += 250;
    }
    assert!(now > 37_000, "the last owner is waited for");
    let (_, epoch) = second.served()[0];
    assert_ne!(epoch, first.copy.tip().epoch);
    assert_eq!(
        engine.entries[..2],
        first.copy.entries,
        "what it has is put back"
    );
}
