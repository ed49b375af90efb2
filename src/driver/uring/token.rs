//! What a completion is about, in the 64 bits that it gives back. A number is not given to somebody else before all
//! completions for it are in: no generation is needed.

/// What was asked for, and the number of what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Another thread wants the worker to look into its mailbox.
    Wake,
    /// The driver for all that is no stream has something to tell.
    Rest,
    Accept(u32),
    Receive(u32),
    Send(u32),
    /// There is room to send more.
    Room(u32),
    /// A stream that nobody reads from is broken.
    Watch(u32),
    /// The end of an order to cancel.
    Cancel,
}

const KIND_SHIFT: u32 = 32;

impl Token {
    pub(super) const fn to_raw(self) -> u64 {
        let (kind, number) = match self {
            Self::Wake => (0, 0),
            Self::Rest => (1, 0),
            Self::Cancel => (2, 0),
            Self::Accept(number) => (3, number),
            Self::Receive(number) => (4, number),
            Self::Send(number) => (5, number),
            Self::Room(number) => (6, number),
            Self::Watch(number) => (7, number),
        };
        kind << KIND_SHIFT | number as u64
    }

    #[allow(clippy::cast_possible_truncation)] // each part is taken out of its own bits
    pub(super) fn from_raw(raw: u64) -> Self {
        let number = raw as u32;
        match raw >> KIND_SHIFT {
            0 => Self::Wake,
            1 => Self::Rest,
            3 => Self::Accept(number),
            4 => Self::Receive(number),
            5 => Self::Send(number),
            6 => Self::Room(number),
            7 => Self::Watch(number),
            _ => Self::Cancel,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back() {
        let numbered = [Token::Accept, Token::Receive, Token::Send, Token::Room, Token::Watch];
        let numbered = numbered.into_iter().flat_map(|token| [0, 7, u32::MAX].map(token));
        for token in [Token::Wake, Token::Rest, Token::Cancel].into_iter().chain(numbered) {
            assert_eq!(Token::from_raw(token.to_raw()), token);
        }
    }
}
