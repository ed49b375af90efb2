//! A node's name: no two live nodes have the same. A node asks whether somebody answers to its name before it says a word, and
//! goes on asking while somebody does.

use super::{ANSWER_MS, ASK_MS, DEAD_MS, DESERTED_MS};
use crate::status::{Error, Status};

/// How a node stands to its name.
#[derive(Debug, Default)]
pub(super) struct Claim {
    is_held: bool,
    is_asking: bool,
    asked_ms: Option<u64>,
    /// When another node was last heard that has it.
    rival_ms: Option<u64>,
    /// Since when questions have been without an answer, though somebody is there to hear them.
    unanswered_ms: Option<u64>,
}

/// Why a node has to wait for its name.
pub(in crate::cluster) fn name_taken(node: &str) -> Error {
    Error::new(Status::NodeTaken, format!("another node has the name {node}"))
}

impl Claim {
    /// It is ours from the beginning: there is nobody else.
    pub(super) fn held() -> Self {
        Self { is_held: true, ..Self::default() }
    }

    pub(super) fn is_held(&self) -> bool {
        self.is_held
    }

    /// Another node has it.
    pub(super) fn is_taken(&self) -> bool {
        !self.is_held && self.rival_ms.is_some()
    }

    /// Whether it is time to ask.
    pub(super) fn ask(&mut self, now_ms: u64) -> bool {
        let is_due = self.asked_ms.is_none_or(|asked_ms| now_ms >= asked_ms + u64::from(ASK_MS));
        if self.is_held || self.is_asking || !is_due {
            return false;
        }
        self.is_asking = true;
        self.asked_ms = Some(now_ms);
        true
    }

    /// What came of the question. True: the name is ours from here on.
    pub(super) fn answered(&mut self, now_ms: u64, answer: Status) -> bool {
        self.is_asking = false;
        let silent_since = match answer {
            Status::Ok => {
                self.rival_ms = Some(now_ms);
                self.unanswered_ms = None;
                return false;
            }
            // Nobody is there. Who was heard a moment ago may be changing the server.
            Status::NoService => {
                self.unanswered_ms = None;
                self.is_held |= self.rival_ms.is_none_or(|heard_ms| now_ms >= heard_ms + DESERTED_MS);
                return self.is_held;
            }
            // Somebody is there, and stands still.
            Status::Timeout => {
                let asked_ms = now_ms.saturating_sub(u64::from(ANSWER_MS));
                (*self.unanswered_ms.get_or_insert(asked_ms)).max(self.rival_ms.unwrap_or(0))
            }
            _ => return false,
        };
        self.is_held |= now_ms >= silent_since + DEAD_MS;
        self.is_held
    }

    /// Another node with the name was heard.
    pub(super) fn rival(&mut self, now_ms: u64) {
        self.rival_ms = Some(now_ms);
        self.unanswered_ms = None;
    }

    /// It has said goodbye.
    pub(super) fn rival_left(&mut self) {
        self.rival_ms = None;
        self.asked_ms = None;
    }

    /// Leaves the name to another, which has had it for longer.
    pub(super) fn yield_to_rival(&mut self, now_ms: u64) {
        self.is_held = false;
        self.asked_ms = Some(now_ms);
        self.rival(now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_name_is_ours_at_the_first_answer() {
        let mut claim = Claim::default();
        assert!(claim.ask(1_000));
        assert!(!claim.ask(1_000), "one question at a time");
        assert!(claim.answered(1_001, Status::NoService));
        assert!(claim.is_held() && !claim.is_taken() && !claim.ask(9_000));
    }

    #[test]
    fn a_taken_name_is_asked_for_until_it_is_free() {
        let mut claim = Claim::default();
        assert!(claim.ask(1_000));
        assert!(!claim.answered(1_001, Status::Ok));
        assert!(claim.is_taken() && !claim.ask(1_200));
        // For a moment nobody answers, but somebody was just heard.
        assert!(claim.ask(1_300));
        assert!(!claim.answered(1_301, Status::NoService));
        claim.rival(1_500);
        assert!(claim.ask(2_000) && !claim.answered(2_700, Status::NoService));
        assert!(claim.ask(2_800) && claim.answered(2_801, Status::NoService));
    }

    #[test]
    fn a_goodbye_frees_it_at_once() {
        let mut claim = Claim::default();
        claim.rival(1_000);
        assert!(claim.ask(1_000) && !claim.answered(1_001, Status::Ok));
        claim.rival_left();
        assert!(claim.ask(1_002) && claim.answered(1_003, Status::NoService));
    }

    #[test]
    fn who_stands_still_loses_it() {
        let mut claim = Claim::default();
        let mut now_ms = 1_000;
        while now_ms < 1_000 + DEAD_MS {
            assert!(claim.ask(now_ms));
            now_ms += u64::from(ANSWER_MS);
            if claim.answered(now_ms, Status::Timeout) {
                break;
            }
        }
        assert!(claim.is_held() && now_ms >= 1_000 + DEAD_MS);
        let mut claim = Claim::default();
        assert!(claim.ask(1_000) && !claim.answered(1_000, Status::Disconnected) && !claim.is_taken());
    }
}
