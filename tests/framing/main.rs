//! Framing, held to a reference: whatever the pieces in which a stream comes, the same messages come out.

mod inputs;
mod limits;
mod reference;

use std::path::Path;

use ahoy::framing::{Framing, Order, Partial};
use proptest::collection::vec;
use proptest::prelude::*;
use reference::{expected, read};

fn lengths() -> impl Strategy<Value = Framing> {
    let order = prop_oneof![Just(Order::Big), Just(Order::Little)];
    (prop::sample::select(vec![1, 2, 4]), order).prop_map(|(width, order)| Framing::length(width, order).unwrap())
}

/// Of few different bytes, so that they overlap themselves, and what comes before them.
fn delimiters() -> impl Strategy<Value = Framing> {
    let bytes = prop_oneof![4 => vec(b'a'..=b'b', 1..6), 1 => vec(b'a'..=b'b', 60..65)];
    bytes.prop_map(|bytes| Framing::delimiter(&bytes).unwrap())
}

fn limits() -> impl Strategy<Value = usize> {
    prop_oneof![0..9usize, 60..70usize, Just(1 << 20), Just(usize::MAX)]
}

/// A stream in which there are delimiters of `framing`, whole ones and parts of them, or frames with lengths.
fn streams(framing: &Framing) -> impl Strategy<Value = Vec<u8>> + use<> {
    let (noise, frame) = match framing {
        Framing::Delimiter(delimiter) => (b"abc".to_vec(), delimiter.bytes().to_vec()),
        Framing::Lines => (b"a\r".to_vec(), b"\r\n".to_vec()),
        Framing::Length { .. } => (vec![0, 0, 0, 1, 2, 255], Vec::new()),
        Framing::Raw => (vec![0, 1], Vec::new()),
    };
    let framing = framing.clone();
    let noise = move || vec(prop::sample::select(noise.clone()), 0..12);
    let part = prop_oneof![
        2 => noise().prop_map(|bytes| (bytes, false)),
        2 => vec(any::<u8>(), 0..80).prop_map(|bytes| (bytes, true)),
        1 => (0..=frame.len()).prop_map(move |length| (frame[..length].to_vec(), false)),
    ];
    vec(part, 0..12).prop_map(move |parts| {
        parts
            .iter()
            .flat_map(|(bytes, is_message)| if *is_message { framed(&framing, bytes) } else { bytes.clone() })
            .collect()
    })
}

fn framed(framing: &Framing, message: &[u8]) -> Vec<u8> {
    let frame = framing.frame(message.len()).unwrap();
    let bytes = [frame.prefix(), message, frame.suffix()].concat();
    assert_eq!(bytes.len(), message.len() + frame.overhead());
    bytes
}

fn with_stream(framing: impl Strategy<Value = Framing>) -> impl Strategy<Value = (Framing, Vec<u8>)> {
    framing.prop_flat_map(|framing| (Just(framing.clone()), streams(&framing)))
}

/// Pieces, mostly short ones; and pauses, for some streams.
fn choices() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop_oneof![3 => 1..5u8, 1 => 0..16u8];
    let pauses = prop_oneof![Just(0), any::<u8>().prop_map(|bits| bits & 0xf0)];
    vec((pieces, pauses).prop_map(|(piece, pause)| piece | pause), 0..40)
}

/// What the fuzzer has found worth keeping.
#[test]
fn the_kept_inputs_pass() {
    type Target = fn(&[u8]);
    let targets: [(&str, Target); 5] = [
        ("framing_raw", inputs::raw),
        ("framing_lines", inputs::lines),
        ("framing_length", inputs::length),
        ("framing_delimiter", inputs::delimiter),
        ("url", inputs::url),
    ];
    for (name, target) in targets {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let files = folder.read_dir().unwrap().map(|file| file.unwrap().path()).collect::<Vec<_>>();
        assert!(files.len() >= 10, "{name}: {} inputs", files.len());
        for file in files {
            target(&std::fs::read(&file).unwrap());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_split_of_lines_gives_the_same((framing, stream) in with_stream(Just(Framing::Lines)), max in limits(), choices in choices()) {
        prop_assert_eq!(read(&framing, &stream, max, &choices), expected(&framing, &stream, max));
    }

    #[test]
    fn any_split_of_lengths_gives_the_same((framing, stream) in with_stream(lengths()), max in limits(), choices in choices()) {
        prop_assert_eq!(read(&framing, &stream, max, &choices), expected(&framing, &stream, max));
    }

    #[test]
    fn any_split_of_delimiters_gives_the_same((framing, stream) in with_stream(delimiters()), max in limits(), choices in choices()) {
        prop_assert_eq!(read(&framing, &stream, max, &choices), expected(&framing, &stream, max));
    }

    /// Too long shows at the same byte, however the bytes come.
    #[test]
    fn a_refusal_comes_at_the_first_byte_that_shows_it(
        (framing, stream) in with_stream(prop_oneof![Just(Framing::Lines), delimiters(), lengths()]), max in limits(),
    ) {
        for length in 0..stream.len() {
            let (piece, bytes) = (&stream[..length], &[1]);
            let once = expected(&framing, piece, max);
            prop_assert_eq!(&read(&framing, piece, max, &[]), &once);
            prop_assert_eq!(&read(&framing, piece, max, bytes), &once);
            if once.too_long {
                break;
            }
        }
    }

    /// Without framing the bytes come in order, in pieces that are never empty.
    #[test]
    fn raw_gives_every_byte(stream in vec(any::<u8>(), 0..300), max in limits(), choices in choices()) {
        let outcome = read(&Framing::Raw, &stream, max, &choices);
        prop_assert!(!outcome.too_long);
        prop_assert!(outcome.messages.iter().all(|message| !message.is_empty()));
        prop_assert_eq!(outcome.messages.concat(), stream);
    }

    /// What one side frames the other side gets.
    #[test]
    fn what_is_framed_comes_back(
        framing in prop_oneof![Just(Framing::Lines), lengths(), delimiters()],
        messages in vec(vec(b'c'..=b'z', 0..200), 0..20),
        choices in choices(),
    ) {
        let stream = messages.iter().flat_map(|message| framed(&framing, message)).collect::<Vec<u8>>();
        let outcome = read(&framing, &stream, 200, &choices);
        prop_assert_eq!(outcome.messages, messages);
        prop_assert!(!outcome.too_long);
    }

    /// The query of a framing names it, and can stand in a list.
    #[test]
    fn a_query_comes_back(
        framing in prop_oneof![Just(Framing::Raw), Just(Framing::Lines), lengths(), delimiters()],
        delimiter in vec(any::<u8>(), 1..65),
    ) {
        for framing in [framing, Framing::delimiter(&delimiter).unwrap()] {
            let query = framing.to_string();
            prop_assert!(query.bytes().all(|byte| byte.is_ascii_graphic() && !b",?#'\"".contains(&byte)), "{}", query);
            prop_assert_eq!(Framing::from_query(&query).unwrap(), Some(framing));
        }
    }

    /// No query does harm, and what one is understood as can be written.
    #[test]
    fn any_query_is_read_or_refused(query in "(framing|delimiter|length_bytes|length_order)=[ -~é&=]{0,20}") {
        if let Ok(Some(framing)) = Framing::from_query(&query) {
            prop_assert_eq!(Framing::from_query(&framing.to_string()).unwrap(), Some(framing));
        }
    }
}
