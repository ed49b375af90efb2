//! What framing must do, said the slow way: it sees the whole stream at once and looks at every byte. And a reader
//! that hands the same stream to the real one in pieces. The fuzz targets use both, too.

use ahoy::framing::{Framing, Order, Partial, Refused};

/// What came out of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) messages: Vec<Vec<u8>>,
    /// After these messages it went on with one that is too long.
    pub(crate) too_long: bool,
}

/// What must come out of a stream. Not for [`Framing::Raw`], where that depends on the pieces.
pub(crate) fn expected(framing: &Framing, stream: &[u8], message_bytes_max: usize) -> Outcome {
    let mut outcome = Outcome::default();
    let mut rest = stream;
    while let Some((message, end)) = first(framing, rest) {
        if message.len() > message_bytes_max {
            outcome.too_long = true;
            return outcome;
        }
        outcome.messages.push(message.to_vec());
        rest = &rest[end..];
    }
    outcome.too_long = match framing {
        Framing::Length { .. } => length(framing, rest).is_some_and(|length| length > message_bytes_max),
        // It is too long if no end of it that may come would leave a message that is not.
        _ => !ends(framing).iter().any(|end| {
            let whole = [rest, end].concat();
            first(framing, &whole).is_some_and(|(message, _)| message.len() <= message_bytes_max)
        }),
    };
    outcome
}

/// Every way to end a message.
fn ends(framing: &Framing) -> Vec<&[u8]> {
    match framing {
        Framing::Lines => vec![b"\n"],
        Framing::Delimiter(delimiter) => (0..delimiter.bytes().len()).map(|from| &delimiter.bytes()[from..]).collect(),
        _ => unreachable!(),
    }
}

/// The first whole message, and where its frame ends.
fn first<'a>(framing: &Framing, stream: &'a [u8]) -> Option<(&'a [u8], usize)> {
    match framing {
        Framing::Lines => {
            let at = stream.iter().position(|byte| *byte == b'\n')?;
            let line = &stream[..at];
            Some((line.strip_suffix(b"\r").unwrap_or(line), at + 1))
        }
        Framing::Delimiter(delimiter) => {
            let delimiter = delimiter.bytes();
            let at = stream.windows(delimiter.len()).position(|window| window == delimiter)?;
            Some((&stream[..at], at + delimiter.len()))
        }
        Framing::Length { width, .. } => {
            let start = *width as usize;
            let end = start + length(framing, stream)?;
            Some((stream.get(start..end)?, end))
        }
        Framing::Raw => unreachable!(),
    }
}

fn length(framing: &Framing, stream: &[u8]) -> Option<usize> {
    let Framing::Length { width, order } = framing else { unreachable!() };
    let mut bytes = stream.get(..*width as usize)?.to_vec();
    if *order == Order::Little {
        bytes.reverse();
    }
    Some(bytes.iter().fold(0, |length, byte| length * 256 + usize::from(*byte)))
}

/// Lengths of pieces to choose from. The first is all there is.
const PIECES: [usize; 16] = [usize::MAX, 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 32, 63, 64, 100, 1000];
/// Chosen for a piece: the connection is paused when it comes.
const PAUSED: u8 = 1 << 4;
/// Chosen after a message: the program pauses the connection, and what is left of the piece is held.
const PAUSE: u8 = 1 << 5;
/// Chosen after that: the next piece comes while messages are held.
const STAY_PAUSED: u8 = 1 << 6;
/// Chosen between two messages: the connection gives its memory back.
const FORGET: u8 = 1 << 7;

/// Reads a stream the way a worker does: in pieces, with pauses in the middle of them. `choices` say where, a byte for
/// each piece and each message; they are used again when they run out. None: all in one piece.
pub(crate) fn read(framing: &Framing, stream: &[u8], message_bytes_max: usize, choices: &[u8]) -> Outcome {
    let mut choices = choices.iter().copied().cycle();
    let mut choose = move || choices.next().unwrap_or(0);
    let mut outcome = Outcome::default();
    let mut partial = Partial::default();
    let mut rest = stream;
    while !rest.is_empty() {
        let choice = choose();
        let (mut chunk, behind) = rest.split_at(rest.len().min(PIECES[usize::from(choice % 16)]));
        rest = behind;
        if choice & PAUSED != 0 {
            partial.hold(chunk).unwrap();
            chunk = &[];
        }
        loop {
            let (before, was_empty) = (chunk, partial.is_empty());
            match framing.next(&mut partial, &mut chunk, message_bytes_max) {
                Ok(Some(message)) => {
                    assert!(message.len() <= message_bytes_max || framing.is_raw() && message.len() == 1);
                    assert!(!was_empty || lies_in(message, before), "a message that was whole in a piece was copied");
                    outcome.messages.push(message.to_vec());
                }
                Ok(None) => {
                    assert!(chunk.is_empty(), "bytes of a piece were left");
                    break;
                }
                Err(Refused::TooLong) => {
                    outcome.too_long = true;
                    return outcome;
                }
                Err(Refused::Memory) => panic!("there is memory"),
            }
            let choice = choose();
            if choice & PAUSE != 0 {
                partial.hold(chunk).unwrap();
                chunk = &[];
                if choice & STAY_PAUSED != 0 {
                    break;
                }
            }
            if partial.is_empty() && choice & FORGET != 0 {
                partial = Partial::default();
            }
        }
        let arrived = stream.len() - rest.len();
        assert!(partial.bytes() <= 64.max(4 * arrived), "{} bytes kept of {arrived}", partial.bytes());
    }
    // What is still held.
    loop {
        match framing.next(&mut partial, &mut &[][..], message_bytes_max) {
            Ok(Some(message)) => outcome.messages.push(message.to_vec()),
            Ok(None) => return outcome,
            Err(refused) => {
                assert_eq!(refused, Refused::TooLong);
                outcome.too_long = true;
                return outcome;
            }
        }
    }
}

fn lies_in(inner: &[u8], outer: &[u8]) -> bool {
    let (inner, outer) = (inner.as_ptr_range(), outer.as_ptr_range());
    outer.start <= inner.start && inner.end <= outer.end
}
