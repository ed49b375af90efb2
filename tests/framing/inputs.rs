//! What the bytes of a fuzzer mean, and what must hold for any of them. The fuzz targets call these, and so does a
//! test with the inputs that are kept in `fuzz/corpus`.

use ahoy::framing::{DELIMITER_BYTES_MAX, Framing, Order};
use ahoy::net::Target;

use crate::reference::{expected, read};

/// Things are taken off the front: first the particulars of a framing, then a limit and choices. The rest is a stream.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        let (byte, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *byte
    }

    /// At most so many bytes.
    fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// The longest message that is allowed: short ones often, so that the limit is met.
    fn message_bytes_max(&mut self) -> usize {
        match self.byte() {
            255 => usize::MAX,
            254 => 1 << 16,
            byte => byte.into(),
        }
    }

    /// Where the stream is cut and reading pauses.
    fn choices(&mut self) -> &'a [u8] {
        let length = self.byte() % 32;
        self.bytes(length.into())
    }

    /// The rest, as a stream: whatever the pieces, the messages are those of the reference.
    fn check(&mut self, framing: &Framing) {
        let (max, choices) = (self.message_bytes_max(), self.choices());
        assert_eq!(read(framing, self.0, max, choices), expected(framing, self.0, max));
    }
}

/// Without framing the messages depend on the pieces; but every byte is delivered once and in order.
pub(crate) fn raw(data: &[u8]) {
    let mut input = Input(data);
    let (max, choices) = (input.message_bytes_max(), input.choices());
    let outcome = read(&Framing::Raw, input.0, max, choices);
    assert!(!outcome.too_long);
    assert!(outcome.messages.iter().all(|message| !message.is_empty()));
    assert_eq!(outcome.messages.concat(), input.0);
}

pub(crate) fn lines(data: &[u8]) {
    Input(data).check(&Framing::Lines);
}

pub(crate) fn length(data: &[u8]) {
    let mut input = Input(data);
    let particulars = input.byte();
    let order = if particulars & 1 == 0 { Order::Big } else { Order::Little };
    let width = [1, 2, 4][usize::from(particulars >> 1) % 3];
    input.check(&Framing::length(width, order).unwrap());
}

pub(crate) fn delimiter(data: &[u8]) {
    let mut input = Input(data);
    let length = 1 + usize::from(input.byte()) % DELIMITER_BYTES_MAX;
    // There may be nothing left to make one of.
    if let Ok(framing) = Framing::delimiter(input.bytes(length)) {
        input.check(&framing);
    }
}

/// No text does harm, and what is understood is written so that it is understood as the same again.
pub(crate) fn url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for target in Target::parse_list(text).into_iter().flatten() {
        let written = target.to_string();
        assert_eq!(Target::parse(&written).ok(), Some(target), "{text:?} was written as {written:?}");
    }
    if let Ok(Some(framing)) = Framing::from_query(text) {
        let written = framing.to_string();
        assert!(!written.contains([',', '?', '#', ' ']), "{written:?} can be no part of a URL");
        assert_eq!(Framing::from_query(&written).ok(), Some(Some(framing)), "{text:?} was written as {written:?}");
    }
}
