//! Names and subjects: how what a program calls things is written where NATS clients can meet it.
//!
//! A subject is made of tokens with dots between. In a token stand letters, digits, `-`, `_` and `/` for themselves; any
//! other byte of a name is `=` and two hexadecimal digits. A dot between two tokens of a name stays a dot, so that the
//! topic `news.sport` can be subscribed to as `CLUSTER.topic.news.*`. docs/CLUSTER.md lists the subjects.

pub(crate) use crate::net::check_name;

/// Writes a name so that it is a part of a subject, a key, or a stream's name. No two names come out the same.
pub(crate) fn encode(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    encode_onto(&mut text, name);
    text
}

/// The same, behind what is there.
pub(crate) fn encode_onto(text: &mut String, name: &[u8]) {
    for (at, &byte) in name.iter().enumerate() {
        let is_token = |at: Option<&u8>| at.is_some_and(|byte| *byte != b'.');
        let is_separator = byte == b'.' && at > 0 && is_token(name.get(at - 1)) && is_token(name.get(at + 1));
        if byte.is_ascii_alphanumeric() || b"-_/".contains(&byte) || is_separator {
            text.push(char::from(byte));
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            text.push('=');
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// The same, as one token: dots are no separators.
pub(crate) fn encode_token(name: &[u8]) -> String {
    encode(name).replace('.', "=2E")
}

/// The name that was written so. None: it was not written by [`encode`]; somebody else has his own way with names.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'=' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            name.push(digit(bytes.next())? << 4 | digit(bytes.next())?);
        } else {
            name.push(byte);
        }
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_names_stay_as_they_are() {
        for name in ["lobby", "news.sport", "a-b_c/d", "A1"] {
            assert_eq!(encode(name.as_bytes()), name);
        }
        for (name, text) in [(".a", "=2Ea"), ("a.", "a=2E"), ("a..b", "a=2E=2Eb"), ("a b", "a=20b"), ("*", "=2A")] {
            assert_eq!(encode(name.as_bytes()), text);
        }
        assert_eq!(encode_token(b"a.b"), "a=2Eb");
        assert_eq!(decode("a=2"), None);
        assert_eq!(decode("a=zz"), None);
    }

    proptest! {
        #[test]
        fn any_name_comes_back(name in prop::collection::vec(any::<u8>(), 0..40)) {
            for text in [encode(&name), encode_token(&name)] {
                prop_assert_eq!(decode(&text), Some(name.clone()));
                prop_assert!(text.split('.').all(|token| !token.is_empty()) || name.is_empty());
                prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_/=.".contains(&byte)));
            }
        }
    }
}
