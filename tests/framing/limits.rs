//! Framing at its limits: message sizes, memory, and what must not be copied.

use super::*;
use ahoy::framing::{DELIMITER_BYTES_MAX, Refused};
use ahoy::status::Status;

fn length(width: u32) -> Framing {
    Framing::length(width, Order::Big).unwrap()
}

fn delimiter(bytes: &[u8]) -> Framing {
    Framing::delimiter(bytes).unwrap()
}

/// What comes out of one piece; and what does when each byte is a piece.
#[track_caller]
fn check(framing: &Framing, stream: &[u8], message_bytes_max: usize, messages: &[&[u8]], too_long: bool) {
    for choices in [&[][..], &[1]] {
        let outcome = read(framing, stream, message_bytes_max, choices);
        assert_eq!(outcome.messages, messages);
        assert_eq!(outcome.too_long, too_long);
    }
}

#[test]
fn lines_end_with_lf_or_crlf() {
    let messages: [&[u8]; 6] = [b"one", b"two", b"", b"", b"a\rb", b"\r"];
    check(&Framing::Lines, b"one\ntwo\r\n\n\r\na\rb\n\r\r\nrest", 4, &messages, false);
}

#[test]
fn a_line_of_the_limit_may_still_have_its_cr() {
    check(&Framing::Lines, b"1234", 4, &[], false);
    check(&Framing::Lines, b"1234\r", 4, &[], false);
    check(&Framing::Lines, b"1234\r\n", 4, &[b"1234"], false);
    check(&Framing::Lines, b"12345", 4, &[], true);
    check(&Framing::Lines, b"1234\r5", 4, &[], true);
    check(&Framing::Lines, b"1234\r\r", 4, &[], true);
    check(&Framing::Lines, b"\n1234\r\r\n", 4, &[b""], true);
}

#[test]
fn a_length_says_at_once_that_it_is_too_long() {
    check(&length(1), b"\x041234\x00\x05", 4, &[b"1234", b""], true);
    check(&length(2), b"\x00\x041234\x01", 4, &[b"1234"], false);
    check(&length(4), b"\xff\xff\xff\xff", usize::MAX, &[], usize::BITS < 32);
    check(&length(4), b"\x00\x00\x00\x05", 4, &[], true);
    let little = Framing::length(0, Order::Little).unwrap();
    check(&little, b"\x02\x00\x00\x00hi\x00\x01\x00\x00", 255, &[b"hi"], true);
}

#[test]
fn a_delimiter_is_found_where_it_first_is() {
    check(&delimiter(b"aab"), b"aaabaabab", 9, &[b"a", b""], false);
    check(&delimiter(b"aa"), b"aaaaa", 9, &[b"", b""], false);
    check(&delimiter(b"abab"), b"aababab-abab", 9, &[b"a", b"ab-"], false);
    check(&delimiter(b"\0"), b"x\0\0", 9, &[b"x", b""], false);
}

#[test]
fn behind_a_message_of_the_limit_only_a_delimiter_may_begin() {
    check(&delimiter(b"--end"), b"1234--en", 4, &[], false);
    check(&delimiter(b"--end"), b"1234--end", 4, &[b"1234"], false);
    check(&delimiter(b"--end"), b"12345", 4, &[], true);
    check(&delimiter(b"--end"), b"1234--x", 4, &[], true);
    check(&delimiter(b"--end"), b"1234---", 4, &[], true);
    check(&delimiter(b"--end"), b"12345--end", 4, &[], true);
    // The delimiter could begin one byte earlier than the longest part of it that is there.
    check(&delimiter(b"aab"), b"aaa", 1, &[], false);
    check(&delimiter(b"aab"), b"aaa", 0, &[], true);
}

#[test]
fn a_frame_fits_its_length_or_is_refused() {
    for (width, length_max) in [(1, 0xff), (2, 0xffff), (4, 0xffff_ffff_usize)] {
        let framing = length(width);
        let frame = framing.frame(length_max).unwrap();
        assert_eq!(frame.prefix(), vec![0xff; width as usize]);
        assert_eq!((frame.suffix(), frame.overhead()), (&b""[..], width as usize));
        assert_eq!(framing.frame(length_max + 1).unwrap_err().status, Status::TooLong);
    }
    assert_eq!(length(4).frame(0x0102_0304).unwrap().prefix(), [1, 2, 3, 4]);
    assert_eq!(Framing::length(2, Order::Little).unwrap().frame(0x0102).unwrap().prefix(), [2, 1]);
    assert_eq!(Framing::Lines.frame(usize::MAX).unwrap().suffix(), b"\n");
    assert_eq!(delimiter(b"--").frame(0).unwrap().suffix(), b"--");
    assert_eq!(Framing::Raw.frame(usize::MAX).unwrap().overhead(), 0);
    assert!(Framing::Raw.is_raw() && !Framing::Lines.is_raw());
}

#[test]
fn particulars_are_checked() {
    for bytes in [3, 5, 8, u32::MAX] {
        assert_eq!(Framing::length(bytes, Order::Big).unwrap_err().status, Status::Invalid);
    }
    assert_eq!(length(0), length(4));
    assert_eq!(Framing::delimiter(b"").unwrap_err().status, Status::Invalid);
    assert!(Framing::delimiter(&[0; DELIMITER_BYTES_MAX]).is_ok());
    assert_eq!(Framing::delimiter(&[0; DELIMITER_BYTES_MAX + 1]).unwrap_err().status, Status::TooLong);
    assert_ne!(delimiter(b"a"), delimiter(b"b"));
}

/// All but the first two bytes of `stream` lie in the second piece: one message that is begun and two that are not.
fn copies_only_what_is_missing(framing: &Framing, stream: &[u8], second: &[u8]) {
    let (first, rest) = stream.split_at(2);
    let mut partial = Partial::default();
    let mut chunk = first;
    assert_eq!(framing.next(&mut partial, &mut chunk, 100), Ok(None));
    let mut chunk = rest;
    let message = framing.next(&mut partial, &mut chunk, 100).unwrap().unwrap().to_vec();
    let frame = framed(framing, &message);
    assert_eq!(frame.len() + chunk.len(), stream.len(), "more was taken than the message has");
    assert!(partial.is_empty());
    let kept = partial.bytes();
    for _ in 0..2 {
        let before = chunk;
        let prefix_bytes = framing.frame(second.len()).unwrap().prefix().len();
        let message = framing.next(&mut partial, &mut chunk, 100).unwrap().unwrap();
        assert_eq!(message, second);
        assert_eq!(message.as_ptr(), before[prefix_bytes..].as_ptr(), "it was copied");
    }
    assert_eq!((chunk, partial.bytes()), (&b""[..], kept));
}

#[test]
fn messages_are_delivered_where_they_lie() {
    for framing in [Framing::Lines, length(1), length(2), length(4), delimiter(b"-"), delimiter(b"--end--")] {
        let stream = [framed(&framing, b"first"), framed(&framing, b"second"), framed(&framing, b"second")].concat();
        copies_only_what_is_missing(&framing, &stream, b"second");
    }
}

#[test]
fn of_a_split_delimiter_only_the_missing_bytes_are_taken() {
    let framing = delimiter(b"aaa");
    let mut partial = Partial::default();
    let mut chunk = &b"aaxaaa"[..];
    assert_eq!(framing.next(&mut partial, &mut &b"aa"[..], 9), Ok(None));
    assert_eq!(framing.next(&mut partial, &mut chunk, 9), Ok(Some(&b""[..])));
    assert_eq!(chunk, b"axaaa");
    assert!(partial.is_empty());
}

#[test]
fn a_promised_length_costs_no_memory() {
    let mut partial = Partial::default();
    let mut chunk = &b"\xff\xff\xff\xffa few bytes"[..];
    assert_eq!(length(4).next(&mut partial, &mut chunk, usize::MAX), Ok(None));
    assert!(!partial.is_empty());
    assert_eq!(partial.bytes(), 64);
    let mut chunk = &b"\xff\xff\xff\xff"[..];
    assert_eq!(length(4).next(&mut Partial::default(), &mut chunk, 1 << 20), Err(Refused::TooLong));
}

#[test]
fn memory_follows_what_has_arrived_up_to_one_frame() {
    const MAX: usize = 100_000;
    for framing in [Framing::Lines, length(4), delimiter(b"\r\n.\r\n")] {
        let overhead = framing.frame(MAX).unwrap().overhead() + usize::from(framing == Framing::Lines);
        let stream = framed(&framing, &[b'x'; MAX]);
        let mut partial = Partial::default();
        let mut arrived = 0;
        let (last, rest) = stream.split_last().unwrap();
        for piece in rest.chunks(1000) {
            let mut chunk = piece;
            assert_eq!(framing.next(&mut partial, &mut chunk, MAX), Ok(None));
            arrived += piece.len();
            assert!(partial.bytes() <= 2 * arrived, "{} for {arrived}", partial.bytes());
            assert!(partial.bytes() <= MAX + overhead);
        }
        let last = [*last];
        let message = framing.next(&mut partial, &mut &last[..], MAX).unwrap().unwrap();
        assert_eq!(message.len(), MAX);
        // What was large goes when the next message begins.
        assert!(partial.is_empty());
        assert_eq!(framing.next(&mut partial, &mut &framed(&framing, b"ab")[..2], MAX), Ok(None));
        assert_eq!(partial.bytes(), 64);
    }
}

#[test]
fn a_message_that_is_too_long_is_not_kept() {
    for framing in [Framing::Lines, delimiter(b"--end")] {
        let mut partial = Partial::default();
        assert_eq!(framing.next(&mut partial, &mut &b"x"[..], 100), Ok(None));
        let piece = vec![b'x'; 1 << 20];
        assert_eq!(framing.next(&mut partial, &mut &piece[..], 100), Err(Refused::TooLong));
        assert!(partial.bytes() <= 128, "{}", partial.bytes());
    }
}

#[test]
fn what_is_held_comes_first_and_in_order() {
    let mut partial = Partial::default();
    partial.hold(b"").unwrap();
    assert!(partial.is_empty());
    assert_eq!(partial.bytes(), 0);
    partial.hold(b"one\ntw").unwrap();
    partial.hold(b"o\nthr").unwrap();
    let mut newer = &b"ee\nfour\n"[..];
    for expected in ["one", "two", "three", "four"] {
        assert!(!partial.is_empty() || expected == "four");
        let message = Framing::Lines.next(&mut partial, &mut newer, 100).unwrap().unwrap();
        assert_eq!(message, expected.as_bytes());
    }
    assert!(partial.is_empty());
}

#[test]
fn clearing_keeps_a_moderate_buffer() {
    let mut partial = Partial::default();
    partial.hold(&[0; 1000]).unwrap();
    partial.clear();
    assert!(partial.is_empty());
    assert_eq!(partial.bytes(), 1000);
    partial.hold(&[0; (64 << 10) + 1]).unwrap();
    partial.clear();
    assert_eq!(partial.bytes(), 0);
    assert_eq!(Framing::Lines.next(&mut partial, &mut &b"\n"[..], 1), Ok(Some(&b""[..])));
}

/// A peer that sends one byte at a time costs no more than what it sends: searches go on where they stopped (did they
/// not, this would take minutes), and the buffer grows by doubling.
#[test]
fn the_cost_of_a_slow_message_is_linear() {
    const BYTES: usize = 4 << 20;
    for framing in [Framing::Lines, length(4), delimiter(b"aaaaaaab")] {
        let mut partial = Partial::default();
        let mut growths = 0;
        for byte in (u32::try_from(BYTES).unwrap()).to_be_bytes().iter().chain(std::iter::repeat_n(&b'a', BYTES - 1)) {
            let before = partial.bytes();
            assert_eq!(framing.next(&mut partial, &mut &[*byte][..], BYTES + 4), Ok(None));
            growths += u32::from(partial.bytes() != before);
        }
        assert!(growths <= 20, "{growths} growths");
    }
}

/// A program that pauses after each message, and bytes that come all the while: what is held is not moved for each
/// message (were it, this would take minutes), but room is used again.
#[test]
fn the_cost_of_pauses_is_linear() {
    const HELD: usize = 1 << 20;
    let mut partial = Partial::default();
    partial.hold(&[b'\n'; HELD]).unwrap();
    for _ in 0..8 * HELD {
        assert_eq!(Framing::Lines.next(&mut partial, &mut &[][..], 1), Ok(Some(&b""[..])));
        partial.hold(b"\n").unwrap();
    }
    assert!(partial.bytes() <= 4 * HELD, "{}", partial.bytes());
}
