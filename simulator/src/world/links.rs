//! Links: they come up, are slow, are cut, and each side finds out in its own
//! time.

use delivery::{
    edge::{Input, LinkEnd},
    link::{ToEdge, ToHub},
};

use super::{Due, Link, World, edge_driver::TICK_MS};

impl World {
    /// The edge makes a link.
    pub(super) fn connect_edge(&mut self, edge: usize) {
        if let Some(at) = self.edges[edge].connect_at.take() {
            let late = at + TICK_MS;
            assert!(
                (at..=late).contains(&self.now),
                "edge {edge} attaches at {}, it may from {at} on and has to by {late}",
                self.now
            );
        }
        if self.hub.is_none() {
            self.edge_lost_link(edge, LinkEnd::Lost);
            return;
        }
        let link = self.new_link(edge);
        self.edges[edge].link = Some(link);
        self.attach(link, edge);
    }

    fn new_link(&mut self, edge: usize) -> u64 {
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
        link
    }

    /// Another process attaches under the edge's name.
    pub(super) fn namesake(&mut self, edge: usize) {
        if self.hub.is_some() {
            self.report.namesakes += u64::from(self.edges[edge].link.is_some());
            let link = self.new_link(edge);
            self.attach(link, edge);
        }
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
            self.after(edge, Due::LostAtEdge(link, LinkEnd::Lost));
        }
    }

    pub(super) fn lost_at_edge(&mut self, link: u64, end: LinkEnd) {
        let edge = self.links[&link].edge;
        if self.edges[edge].link == Some(link) {
            self.edges[edge].link = None;
            self.edge_lost_link(edge, end);
        }
    }

    fn edge_lost_link(&mut self, edge: usize, end: LinkEnd) {
        let pause_ms = self.random.between(5, 80);
        let hold_off_ms = match end {
            LinkEnd::Lost => 0,
            LinkEnd::Replaced => self.limits.link_hold_off_ms,
        };
        self.edges[edge].connect_at = Some(self.now + pause_ms + hold_off_ms);
        self.edge(edge, Input::LinkDown { end, pause_ms });
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
