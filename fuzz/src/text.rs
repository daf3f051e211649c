//! What clients and operators write: frames, commands, positions, settings.

use belfry::reason::Reason;
use clap::{Args, Command, FromArgMatches};
use delivery::Position;
use edge::protocol;

/// The bytes of a client after its handshake, in two reads: the first byte says where
/// they are cut.
pub(crate) fn client_frame(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else {
        return;
    };
    let cut = usize::from(*cut).min(bytes.len());
    let whole = edge::read_frames(&[bytes]);
    let in_two = edge::read_frames(&[&bytes[..cut], &bytes[cut..]]);
    // Where a message was cut changes nothing, but when a fault is noticed.
    if let (Ok(whole), Ok(in_two)) = (&whole, &in_two) {
        assert_eq!(whole, in_two);
    }
    if let Err(reason) = whole {
        let known = [
            Reason::ProtocolError,
            Reason::BinaryFrame,
            Reason::BadUtf8,
            Reason::TooBig,
        ];
        assert!(known.contains(&reason), "{reason:?}");
    }
}

/// A message of a client.
pub(crate) fn client_command(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes)
        && let Err(bad) = protocol::parse(text)
    {
        assert!(!bad.message.is_empty());
    }
}

/// A position as clients send it. Each has one text.
pub(crate) fn position(bytes: &[u8]) {
    if let Some(position) = Position::unpack(bytes) {
        assert_eq!(Position::unpack(&position.pack()), Some(position));
    }
    if let Ok(text) = str::from_utf8(bytes)
        && let Some(position) = protocol::read_position(text)
    {
        assert_eq!(protocol::position_text(position), text);
    }
}

/// The services' policy as an operator writes it. A fault names its
/// line.
pub(crate) fn policy(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes)
        && let Err(error) = notifier::Policy::parse(text)
    {
        assert!(error.to_string().contains("line "), "{error}");
    }
}

/// Settings as they are written after a command, one a line.
pub(crate) fn configuration(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let arguments = || std::iter::once("belfry").chain(text.lines());
    let address = ([127, 0, 0, 1], 0).into();
    if let Some(config) = parsed::<edge::Config>(arguments()) {
        let _ = config.check(address);
    }
    if let Some(config) = parsed::<notifier::Config>(arguments()) {
        let _ = config.check();
    }
    for line in text.lines() {
        let _ = settings::address(line);
        let _ = settings::http_url(line);
        let _ = settings::name(line);
        let _ = settings::origin(line);
        let _ = settings::pairs(line);
        let _ = settings::ws_url(line);
    }
}

fn parsed<'a, T: Args + FromArgMatches>(arguments: impl Iterator<Item = &'a str>) -> Option<T> {
    let command = T::augment_args(Command::new("belfry").disable_help_flag(true));
    let matches = command.try_get_matches_from(arguments).ok()?;
    T::from_arg_matches(&matches).ok()
}
