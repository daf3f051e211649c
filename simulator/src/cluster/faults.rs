//! What goes wrong, and how often.

use cluster::{chain::Tip, member::Replica};

use super::{ClusterWorld, Due, NODES, ROUGH_MS};

impl ClusterWorld {
    pub(super) fn fault(&mut self) {
        if self.now >= ROUGH_MS {
            return;
        }
        self.end_protection();
        if self.protected.is_none() {
            self.one_fault();
        }
        let pause = self.random.between(300, 6_000);
        self.after(pause, Due::Fault);
    }

    fn one_fault(&mut self) {
        let serving = self.serving();
        let any = self.random.below(NODES as u64) as usize;
        let index = serving.filter(|_| self.random.chance(70)).unwrap_or(any);
        match self.random.below(14) {
            0 | 1 => {
                self.report.cluster_killed += 1;
                self.kill(index);
                let pause = self.random.between(100, 12_000);
                self.after(pause, Due::Start(index));
            }
            2 | 3 => {
                self.report.cluster_stopped += 1;
                let pause = self.random.between(1_000, 20_000);
                self.nodes[index].stopped_until = self.now + pause;
                self.after(pause, Due::Wake(index));
            }
            4 => {
                self.report.cluster_cut_off += 1;
                let until = self.now + self.random.between(1_000, 12_000);
                self.nodes[index].cut_off_until = until;
            }
            5 => {
                let node = &mut self.nodes[index];
                node.silent_follow = node.follow.map(|(call, _)| call);
                node.watches = false;
                self.report.cluster_silent += 1;
            }
            6..=8 => self.lose_end(),
            9 => self.fork(),
            10 => {
                self.engine.hidden = self.random.between(1, 4) as usize;
                self.engine.hidden_until = self.now + self.random.between(50, 3_000);
                // Whoever takes over then cannot know better.
                self.engine.lost_for_good = true;
                self.report.cluster_hidden += 1;
            }
            11 => {
                self.engine.compares_not = !self.engine.compares_not;
                self.report.cluster_confused += 1;
            }
            12 => {
                self.engine.full = self.random.between(1, 3);
                self.report.cluster_full += 1;
            }
            _ => {
                if self.may_lose(0) {
                    self.report.cluster_deleted += 1;
                    self.engine.delete();
                }
            }
        }
    }

    pub(super) fn kill(&mut self, index: usize) {
        self.nodes[index].kill();
    }

    /// A stopped process goes on. Sometimes it first serves who is attached to it.
    pub(super) fn wake(&mut self, index: usize) {
        if self.nodes[index].is_stopped(self.now) || !self.nodes[index].is_running(self.now) {
            return;
        }
        if self.random.chance(50) {
            self.feed(index, cluster::member::Input::Deadline);
            self.check_served(index);
        }
        for input in std::mem::take(&mut self.nodes[index].missed) {
            self.feed(index, input);
        }
        self.feed(index, cluster::member::Input::Deadline);
        self.pump_later(index);
    }

    /// The engine keeps only a prefix.
    fn lose_end(&mut self) {
        let len = self.engine.len();
        let lost = self.random.between(1, 6) as usize;
        let left = len.saturating_sub(lost);
        if left > 0 && self.may_lose(left) {
            self.report.cluster_lost += 1;
            self.engine.lose_end(left);
        }
    }

    /// Whether the engine may keep only `left` entries: every copy shows the loss, or the
    /// owner lives and has all of it.
    fn may_lose(&mut self, left: usize) -> bool {
        let number = self.engine.tip_at(left).number;
        if number < self.shortest_copy() {
            self.engine.lost_for_good = true;
            return true;
        }
        let Some(owner) = self.serving() else {
            return false;
        };
        let beats = self.engine.key_owner() == Some(self.nodes[owner].name().as_str())
            && self.now < self.engine.key_written_at + 2_000;
        let all = self.engine.tip_at(self.engine.len()).number;
        let has_all = self.nodes[owner].copy.tip().number >= all;
        let calm = !self.engine.compares_not && self.nodes[owner].cut_off_until <= self.now;
        if !(beats && has_all && calm) || self.engine.full > 0 {
            return false;
        }
        self.report.cluster_protected += 1;
        self.protected = Some(all);
        true
    }

    fn shortest_copy(&self) -> u64 {
        let tips = self.nodes.iter().map(|node| node.copy.tip().number);
        tips.min().unwrap_or(0)
    }

    fn end_protection(&mut self) {
        let number = self.engine.tip_at(self.engine.len()).number;
        let back = self.protected.is_some_and(|all| number >= all);
        if back {
            self.protected = None;
        }
    }

    /// Two leaders of the engine wrote, and the other one won.
    fn fork(&mut self) {
        let len = self.engine.len();
        let left = len.saturating_sub(self.random.between(1, 5) as usize);
        let tip = self.engine.tip_at(left);
        if left == 0 || tip.number >= self.shortest_copy() {
            return;
        }
        self.report.cluster_forked += 1;
        self.engine.lost_for_good = true;
        let count = self.random.between(1, 6);
        let mut others = Vec::new();
        let mut tip: Tip = tip;
        for _ in 0..count {
            let event = (1 << 40) + self.random.below(1 << 30);
            let entry = tip.batch(1, &event.to_le_bytes());
            tip = entry.tip;
            others.push(entry.bytes);
        }
        self.engine.fork(left, others);
    }

    pub(super) fn heal_everything(&mut self) {
        self.engine.compares_not = false;
        (self.engine.full, self.engine.hidden_until) = (0, 0);
        self.protected = None;
        for index in 0..NODES {
            self.nodes[index].cut_off_until = 0;
            self.nodes[index].watches = true;
            if self.nodes[index].stopped_until > self.now {
                self.nodes[index].stopped_until = self.now;
                self.after(1, Due::Wake(index));
            }
            self.after(2, Due::Start(index));
        }
    }
}
