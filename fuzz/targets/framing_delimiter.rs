//! Streams of messages with a delimiter behind.
#![no_main]

#[allow(dead_code)] // those of the other targets
#[path = "../../tests/framing/inputs.rs"]
mod inputs;
#[allow(dead_code)]
#[path = "../../tests/framing/reference.rs"]
mod reference;

libfuzzer_sys::fuzz_target!(|data: &[u8]| inputs::delimiter(data));
