//! Links: they come up, are slow, are cut, and each side finds out in its own
//! time.

use delivery::link::{ToEdge, ToHub};

use super::{Due, Link, World};

impl World {
    pub(super) fn link_try(&mut self, edge: usize) {
        let pause = self.random.between(5, 50);
        if self.edges[edge].link.is_some() {
            return;
        }
        if self.hub.is_none() {
            self.after(pause, Due::LinkTry(edge));
            return;
        }
        let link = self.number();
        let (to_hub_at, to_edge_at) = (self.now, self.now);
        self.links.insert(
            link,
            Link {
                edge,
                cut: false,
                to_hub_at,
                to_edge_at,
            },
        );
        self.edges[edge].link = Some(link);
        self.attach(link, edge);
    }

    /// Half-open at first: each side finds out in its own time.
    pub(super) fn cut(&mut self, link: u64) {
        if let Some(known) = self.links.get_mut(&link)
            && !known.cut
        {
            known.cut = true;
            self.report.cuts += 1;
            let (mut hub, edge) = (self.random.between(1, 300), self.random.between(1, 300));
            if self.random.chance(15) {
                // The notifier does not notice for long: the edge is back before.
                self.report.half_open += 1;
                hub += 3_000;
            }
            self.after(hub, Due::LostAtHub(link));
            self.after(edge, Due::LostAtEdge(link));
        }
    }

    pub(super) fn lost_at_edge(&mut self, link: u64) {
        let edge = self.links[&link].edge;
        if self.edges[edge].link == Some(link) {
            self.edges[edge].link = None;
            self.edge(edge, delivery::edge::Input::LinkDown);
            let pause = self.random.between(5, 80);
            self.after(pause, Due::LinkTry(edge));
        }
    }

    pub(super) fn send_to_hub(&mut self, link: u64, message: ToHub) {
        let delay = self.random.between(0, 4);
        let Some(known) = self.links.get_mut(&link) else {
            return;
        };
        known.to_hub_at = known.to_hub_at.max(self.now + delay);
        let when = known.to_hub_at;
        self.at(when, Due::ToHub(link, message));
    }

    pub(super) fn send_to_edge(&mut self, link: u64, message: ToEdge) {
        let delay = self.random.between(0, 4);
        let Some(known) = self.links.get_mut(&link) else {
            return;
        };
        known.to_edge_at = known.to_edge_at.max(self.now + delay);
        let when = known.to_edge_at;
        self.at(when, Due::ToEdge(link, message));
    }
}
