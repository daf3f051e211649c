//! What goes wrong, and how often.

use delivery::edge::Edge;

use super::{CLIENTS, Due, EDGES, ReadSpeed, World};

impl World {
    pub(super) fn fault(&mut self) {
        if !self.chaos() {
            for index in 0..CLIENTS {
                self.clients[index].read_speed = ReadSpeed::Fast;
            }
            return;
        }
        let client = self.random.below(CLIENTS as u64) as usize;
        let edge = self.random.below(EDGES as u64) as usize;
        match self.random.below(20) {
            0 | 1 => self.crash(),
            2..=5 => {
                if let Some(link) = self.edges[edge].link {
                    self.cut(link);
                }
            }
            6..=9 => self.leave(client),
            10..=13 => {
                let until = self.now + self.random.between(50, 900);
                self.clients[client].read_speed = ReadSpeed::Stopped(until);
            }
            14 => self.edge_dies(edge),
            15 | 16 => self.resubscribe(client),
            17 | 18 => self.switch_queue(client),
            _ => {}
        }
        let pause = self.random.between(20, 200);
        self.after(pause, Due::Fault);
    }

    /// Everything that an edge knew is gone; its clients notice at once, the
    /// notifier later. Another one starts under its name.
    fn edge_dies(&mut self, index: usize) {
        self.report.edge_deaths += 1;
        let dead = &mut self.edges[index];
        dead.edge = Edge::new(self.limits.clone());
        let sockets = std::mem::take(&mut dead.sockets);
        if let Some(link) = dead.link.take() {
            if let Some(known) = self.links.get_mut(&link) {
                known.cut = true;
            }
            let pause = self.random.between(1, 2_000);
            self.after(pause, Due::LostAtHub(link));
            let pause = self.random.between(5, 80);
            self.after(pause, Due::LinkTry(index));
        }
        for socket in sockets.into_values() {
            self.closed(socket.client, None);
        }
    }
}
