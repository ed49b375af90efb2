//! What an event of epoll is about, in the 64 bits that it gives back.

use crate::conn::handle::{ConnId, WORKER_COUNT};

/// Connections keep their own number; others use the worker number that no worker has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Conn(ConnId),
    Listener(usize),
    Datagrams(usize),
    Waker,
    Timer,
    /// An attempt to connect: its number has 48 bits.
    Attempt(u64),
}

const KIND_BITS: u32 = 4;
const WAKER: u32 = 0;
const TIMER: u32 = 1;
const LISTENER: u32 = 2;
const DATAGRAMS: u32 = 3;
const ATTEMPT: u32 = 4;
const INDEX_BITS: u32 = 24;

#[allow(clippy::cast_possible_truncation)] // each part is taken out of its own bits
impl Token {
    pub(super) fn to_raw(self) -> u64 {
        let own = |kind: u32, number: u64| {
            let (index, rest) = (number & ((1 << INDEX_BITS) - 1), number >> INDEX_BITS);
            ConnId::new(WORKER_COUNT, index as u32, (rest as u32) << KIND_BITS | kind).raw()
        };
        match self {
            Self::Conn(conn) => conn.raw(),
            Self::Listener(index) => own(LISTENER, index as u64),
            Self::Datagrams(index) => own(DATAGRAMS, index as u64),
            Self::Waker => own(WAKER, 0),
            Self::Timer => own(TIMER, 0),
            Self::Attempt(number) => own(ATTEMPT, number),
        }
    }

    pub(super) fn from_raw(raw: u64) -> Self {
        let conn = ConnId::from_raw(raw);
        if conn.worker() != WORKER_COUNT {
            return Self::Conn(conn);
        }
        let number = u64::from(conn.generation() >> KIND_BITS) << INDEX_BITS | u64::from(conn.index());
        match conn.generation() & ((1 << KIND_BITS) - 1) {
            WAKER => Self::Waker,
            TIMER => Self::Timer,
            LISTENER => Self::Listener(number as usize),
            DATAGRAMS => Self::Datagrams(number as usize),
            _ => Self::Attempt(number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back() {
        let conn = Token::Conn(ConnId::new(7, 3, 1));
        let attempts = [0, 1, 1 << 24, (1 << 48) - 1].map(Token::Attempt);
        let others = [conn, Token::Listener(0), Token::Listener(9), Token::Datagrams(3)];
        for token in others.into_iter().chain([Token::Waker, Token::Timer]).chain(attempts) {
            assert_eq!(Token::from_raw(token.to_raw()), token);
        }
    }
}
