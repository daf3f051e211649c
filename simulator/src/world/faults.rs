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
        match self.random.below(23) {
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
            19 => self.namesake(edge),
            20 | 21 => self.set_wall_clock(),
            _ => self.vanish(client),
        }
        let pause = self.random.between(20, 200);
        self.after(pause, Due::Fault);
    }

    /// The wall clock is set, forward or back, much or little.
    fn set_wall_clock(&mut self) {
        let most = if self.random.chance(50) { 60 } else { 2_000 };
        let by = self.random.between(1, most).cast_signed();
        if self.random.chance(50) {
            self.report.set_forward += 1;
            self.wall_set_ms += by;
            for edge in &mut self.edges {
                for socket in edge.sockets.values_mut() {
                    socket.furthest_set_ms = socket.furthest_set_ms.max(self.wall_set_ms);
                }
            }
        } else {
            self.report.set_back += 1;
            self.wall_set_ms -= by;
        }
    }

    /// Everything that an edge knew is gone; its clients notice at once, the
    /// notifier later. Another one starts under its name.
    fn edge_dies(&mut self, index: usize) {
        self.report.edge_deaths += 1;
        let dead = &mut self.edges[index];
        dead.edge = Edge::new(self.limits.clone());
        dead.connect_at = None;
        let sockets = std::mem::take(&mut dead.sockets);
        if let Some(link) = dead.link.take() {
            if let Some(known) = self.links.get_mut(&link) {
                known.cut = true;
            }
            let pause = self.random.between(1, 2_000);
            self.after(pause, Due::LostAtHub(link));
        }
        for (session, socket) in sockets {
            self.socket_closed((index, session), &socket, None);
        }
    }
}
