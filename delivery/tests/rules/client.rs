//! A stream that is not followed has no position, and a full table says so.

use delivery::{
    Position, StreamName,
    client::{Client, Input, MAX_STREAMS, Output},
};

fn at(offset: u64) -> Position {
    Position {
        epoch: 7,
        offset,
        check: offset as u32,
    }
}

struct World {
    client: Client,
    out: Vec<Output<u64>>,
}

impl World {
    fn connected() -> Self {
        let mut world = Self {
            client: Client::new(Vec::new()),
            out: Vec::new(),
        };
        world.feed(Input::Start);
        world.feed(Input::Connected {
            streams: Vec::new(),
        });
        world
    }

    fn feed(&mut self, input: Input<u64>) -> Vec<Output<u64>> {
        self.client.handle(input, 0, &mut self.out);
        std::mem::take(&mut self.out)
    }

    fn subscribe(&mut self, stream: &str) {
        let stream: StreamName = stream.into();
        self.feed(Input::Subscribe {
            stream: stream.clone(),
            from: None,
        });
        self.feed(Input::Subscribed { stream, at: at(0) });
    }

    fn event(&mut self, stream: &str, offset: u64) -> usize {
        let event = Input::Event {
            stream: stream.into(),
            at: at(offset),
            event: offset,
        };
        self.feed(event).len()
    }

    fn unsubscribe(&mut self, stream: &str) {
        self.feed(Input::Unsubscribe {
            stream: stream.into(),
        });
    }

    fn unsubscribed(&mut self, stream: &str) {
        self.feed(Input::Unsubscribed {
            stream: stream.into(),
        });
    }
}

#[test]
fn a_queue_left_in_its_handler_keeps_no_position() {
    let mut world = World::connected();
    for number in 0..2 * MAX_STREAMS {
        let queue = format!("queue:q{number}");
        world.subscribe(&queue);
        assert_eq!(world.event(&queue, 1), 1);
        world.unsubscribe(&queue);
        assert_eq!(world.event(&queue, 2), 0, "in flight when it was left");
        assert_eq!(world.client.position(&queue), None);
        world.unsubscribed(&queue);
    }
    world.subscribe("queue:last");
    world.event("queue:last", 1);
    assert_eq!(world.client.position("queue:last"), Some(at(1)));
}

#[test]
fn a_full_table_is_an_error() {
    let mut world = World::connected();
    for number in 0..MAX_STREAMS {
        world.subscribe(&format!("queue:q{number}"));
    }
    let stream: StreamName = "queue:last".into();
    let refused = world.feed(Input::Subscribe {
        stream: stream.clone(),
        from: None,
    });
    assert_eq!(refused, [Output::TooManyStreams { stream }]);
}

#[test]
fn answers_to_a_subscription_that_was_left_do_not_count_for_the_next_one() {
    let mut world = World::connected();
    world.subscribe("queue:q");
    world.unsubscribe("queue:q");
    world.feed(Input::Subscribe {
        stream: "queue:q".into(),
        from: None,
    });
    assert_eq!(world.event("queue:q", 1), 0);
    world.unsubscribed("queue:q");
    world.feed(Input::Subscribed {
        stream: "queue:q".into(),
        at: at(5),
    });
    assert_eq!(world.event("queue:q", 6), 1);
}

#[test]
fn a_stream_that_the_server_ended_has_no_position() {
    let mut world = World::connected();
    world.subscribe("queue:q");
    world.unsubscribed("queue:q");
    assert_eq!(world.client.position("queue:q"), None);
    assert_eq!(world.event("queue:q", 1), 0);
}
