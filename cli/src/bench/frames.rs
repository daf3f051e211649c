//! Counts the frames in a server's byte stream without copying them.

/// What has been seen of one connection's stream.
#[derive(Debug, Default)]
pub(super) struct Frames {
    header: [u8; 10],
    have: usize,
    payload_left: u64,
}

/// What a stretch of bytes completed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameCounts {
    /// Text frames.
    pub(super) texts: u64,
    /// Pings, which want an answer.
    pub(super) pings: u64,
    /// Whether the server closes the connection.
    pub(super) close: bool,
}

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;

impl Frames {
    /// Takes the next bytes of the stream.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> FrameCounts {
        let mut seen = FrameCounts::default();
        while !bytes.is_empty() {
            if self.payload_left == 0 {
                self.header[self.have] = bytes[0];
                self.have += 1;
                bytes = &bytes[1..];
                let Some(length) = self.length() else {
                    continue;
                };
                self.payload_left = length;
                if length > 0 {
                    continue;
                }
            } else {
                let take = self.payload_left.min(bytes.len() as u64);
                bytes = &bytes[take as usize..];
                self.payload_left -= take;
                if self.payload_left > 0 {
                    continue;
                }
            }
            match self.header[0] & 0x0f {
                TEXT => seen.texts += 1,
                PING => seen.pings += 1,
                CLOSE => seen.close = true,
                _ => {}
            }
            self.have = 0;
        }
        seen
    }

    /// The length of the payload, once the header is whole. Servers do not mask.
    fn length(&self) -> Option<u64> {
        let short = u64::from(self.header[1] & 0x7f);
        match (self.have, short) {
            (2, 0..=125) => Some(short),
            (4, 126) => Some(u64::from(u16::from_be_bytes([
                self.header[2],
                self.header[3],
            ]))),
            (10, 127) => {
                let eight = self.header[2..10]
                    .try_into()
                    .expect("a header has ten bytes");
                Some(u64::from_be_bytes(eight))
            }
            _ => None,
        }
    }
}

/// A text frame as a client has to send it, masked with zeroes.
pub(super) fn masked_text(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match text.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length => {
            let length = u16::try_from(length).expect("first frames are below 64 KiB");
            frame.push(0xfe);
            frame.extend(length.to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    frame
}

/// A server's text frame of exactly so many bytes, header and all.
pub(super) fn ready_made(bytes: usize) -> Vec<u8> {
    let header = if bytes < 128 { 2 } else { 4 };
    let payload = bytes.saturating_sub(header);
    let mut frame = vec![0x81];
    if header == 2 {
        frame.push(payload as u8);
    } else {
        frame.push(126);
        frame.extend(
            u16::try_from(payload)
                .expect("frames are below 64 KiB")
                .to_be_bytes(),
        );
    }
    frame.resize(bytes, b'x');
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        let mut stream = Vec::new();
        for bytes in [2, 20, 127, 128, 400, 65_000] {
            stream.extend(ready_made(bytes));
        }
        stream.extend([0x89, 0]);
        stream.extend([0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        stream.resize(stream.len() + 65_536, b'x');
        stream.extend([0x88, 2, 3, 232]);
        for cut in [1, 2, 3, 7, 100, 1_000, stream.len()] {
            let mut frames = Frames::default();
            let mut total = FrameCounts::default();
            for piece in stream.chunks(cut) {
                let seen = frames.feed(piece);
                total.texts += seen.texts;
                total.pings += seen.pings;
                total.close |= seen.close;
            }
            assert_eq!(
                total,
                FrameCounts {
                    texts: 7,
                    pings: 1,
                    close: true
                },
                "pieces of {cut}"
            );
        }
    }
}
