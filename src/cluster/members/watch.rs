//! Who is there: what a node concludes from what it hears, and from what it does not. Nothing here knows an engine or a clock,
//! so that a test can be both.
//!
//! Who is silent for a while is suspected, and asked. Nobody is declared dead for silence alone: either the servers say, more
//! than once, that nobody is there to hear the question; or the question stays without an answer, while one that we
//! ask ourselves, by the same way, is answered.

use std::collections::{BTreeMap, VecDeque};

use super::heartbeat::Heartbeat;
use super::{ASK_MS, DEAD_MS, DESERTED_MS, GRACE_MS, Member, Presence, SUSPECT_MS, TICK_MS};
use crate::status::Status;

/// Members that are watched; more are not taken notice of.
const MEMBERS_MAX: usize = 4_096;
/// News that wait for the program; then the oldest are lost.
const NEWS_MAX: usize = 16_384;
/// Goodbyes that are remembered.
const GOODBYES_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Watch {
    /// By incarnation.
    peers: BTreeMap<u64, Peer>,
    news: VecDeque<Member>,
    /// Incarnation and `since_ms` of those that have said goodbye, and until when what was still on its way does not bring
    /// them back. Later it does: whoever goes on has not said it, but somebody else in its name.
    goodbyes: VecDeque<(u64, u64, u64)>,
    looked_ms: Option<u64>,
    /// Our own link is down: what is still heard was said before, and nobody knows what holds by now.
    is_lost: bool,
    /// When the last question was asked that we have answered ourselves.
    proved_ms: u64,
}

#[derive(Debug)]
struct Peer {
    said: Heartbeat,
    presence: Presence,
    /// Silence counts from here on.
    heard_ms: u64,
    asked_ms: Option<u64>,
    is_asked: bool,
    /// When we were first told, in this silence, that nobody is there; and whether we were told again.
    deserted_ms: Option<u64>,
    is_deserted: bool,
}

impl Peer {
    fn member(&self) -> Member {
        Member::new(&self.said, self.presence, false)
    }
}

impl Watch {
    /// A heartbeat, or an answer with one in it. True: it is somebody new.
    pub(super) fn heard(&mut self, said: Heartbeat, now_ms: u64) -> bool {
        let incarnation = said.incarnation;
        if said.is_leaving {
            self.goodbyes.push_back((incarnation, said.since_ms, now_ms + GRACE_MS));
            if self.goodbyes.len() > GOODBYES_MAX {
                self.goodbyes.pop_front();
            }
            self.depart(incarnation);
            return false;
        }
        let has_gone = |(gone, since_ms, until_ms): &(u64, u64, u64)| {
            (*gone, *since_ms) == (incarnation, said.since_ms) && now_ms < *until_ms
        };
        if self.is_lost || self.goodbyes.iter().any(has_gone) {
            return false;
        }
        if let Some(peer) = self.peers.get_mut(&incarnation) {
            let before = std::mem::replace(&mut peer.presence, Presence::Up);
            peer.said = said;
            peer.heard_ms = now_ms;
            (peer.asked_ms, peer.deserted_ms, peer.is_deserted) = (None, None, false);
            if before != Presence::Up {
                let news = peer.member();
                self.tell(news);
            }
            return false;
        }
        if self.peers.len() >= MEMBERS_MAX {
            log::warn!("{} is not taken notice of: there are {MEMBERS_MAX} members", said.node);
            return false;
        }
        // A node that comes back has asked whether its predecessor lives.
        let is_predecessor = |peer: &Peer| peer.said.node == said.node && peer.presence == Presence::Suspect;
        let before: Vec<u64> =
            self.peers.iter().filter(|(_, peer)| is_predecessor(peer)).map(|(before, _)| *before).collect();
        before.into_iter().for_each(|before| self.depart(before));
        let peer = Peer {
            said,
            presence: Presence::Up,
            heard_ms: now_ms,
            asked_ms: None,
            is_asked: false,
            deserted_ms: None,
            is_deserted: false,
        };
        self.tell(peer.member());
        self.peers.insert(incarnation, peer);
        true
    }

    /// What came of a question to a member, but for an answer, which is [`heard`](Self::heard) as well.
    pub(super) fn answered(&mut self, incarnation: u64, answer: Status, now_ms: u64) {
        let Some(peer) = self.peers.get_mut(&incarnation) else { return };
        peer.is_asked = false;
        if answer == Status::NoService && peer.presence == Presence::Suspect {
            match peer.deserted_ms {
                None => peer.deserted_ms = Some(now_ms),
                Some(first_ms) => peer.is_deserted |= now_ms >= first_ms + u64::from(ASK_MS),
            }
        }
    }

    /// A question that was asked then has come back to us.
    pub(super) fn proved(&mut self, asked_ms: u64) {
        self.proved_ms = self.proved_ms.max(asked_ms);
    }

    /// Looks at the clock; says who is to be asked whether it is there.
    pub(super) fn look(&mut self, now_ms: u64) -> Vec<u64> {
        let last_ms = self.looked_ms.replace(now_ms).unwrap_or(now_ms);
        // We have stood still ourselves: that is nobody's silence.
        let still_ms = now_ms.saturating_sub(last_ms).saturating_sub(u64::from(TICK_MS));
        let mut news = Vec::new();
        let mut asks = Vec::new();
        let mut dead = Vec::new();
        for (incarnation, peer) in &mut self.peers {
            if still_ms > 2 * u64::from(TICK_MS) {
                peer.heard_ms += still_ms;
            }
            let silent_ms = now_ms.saturating_sub(peer.heard_ms);
            if silent_ms < SUSPECT_MS {
                continue;
            }
            if peer.presence != Presence::Suspect {
                peer.presence = Presence::Suspect;
                news.push(peer.member());
            }
            let is_deserted = peer.is_deserted && silent_ms >= DESERTED_MS;
            let is_proved = self.proved_ms + SUSPECT_MS >= now_ms && self.proved_ms > peer.heard_ms;
            if is_deserted || silent_ms >= DEAD_MS && is_proved {
                dead.push(*incarnation);
            } else if !peer.is_asked && peer.asked_ms.is_none_or(|asked_ms| now_ms >= asked_ms + u64::from(ASK_MS)) {
                peer.is_asked = true;
                peer.asked_ms = Some(now_ms);
                asks.push(*incarnation);
            }
        }
        news.into_iter().for_each(|news| self.tell(news));
        dead.into_iter().for_each(|incarnation| self.depart(incarnation));
        asks
    }

    /// Our own link is down: from here on we do not know.
    pub(super) fn lost(&mut self) {
        self.is_lost = true;
        let mut news = Vec::new();
        for peer in self.peers.values_mut() {
            if peer.presence != Presence::Unknown {
                peer.presence = Presence::Unknown;
                news.push(peer.member());
            }
        }
        news.into_iter().for_each(|news| self.tell(news));
    }

    /// It is up again. Others may need some time more to come back.
    pub(super) fn regained(&mut self, now_ms: u64) {
        (self.is_lost, self.looked_ms) = (false, Some(now_ms));
        for peer in self.peers.values_mut() {
            peer.heard_ms = now_ms + GRACE_MS;
            (peer.asked_ms, peer.deserted_ms, peer.is_deserted) = (None, None, false);
        }
    }

    fn depart(&mut self, incarnation: u64) {
        if let Some(mut peer) = self.peers.remove(&incarnation) {
            peer.presence = Presence::Left;
            self.tell(peer.member());
        }
    }

    fn tell(&mut self, news: Member) {
        log::info!("member {} ({:016x}): {:?}", news.node, news.incarnation, news.presence);
        if self.news.len() >= NEWS_MAX {
            log::warn!("the program does not take the news of the cluster's members: some are lost");
            self.news.pop_front();
        }
        self.news.push_back(news);
    }

    /// The oldest of what the program has not been told.
    pub(super) fn next_news(&mut self) -> Option<Member> {
        self.news.pop_front()
    }

    pub(super) fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// Everybody else, as far as we know.
    pub(super) fn members(&self) -> impl Iterator<Item = Member> {
        self.peers.values().map(Peer::member)
    }

    pub(super) fn incarnations(&self) -> impl Iterator<Item = u64> {
        self.peers.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Presence::{Left, Suspect, Unknown, Up};

    fn said(node: &str, incarnation: u64) -> Heartbeat {
        Heartbeat { node: node.to_owned(), incarnation, since_ms: 1, ..Heartbeat::default() }
    }

    fn news(watch: &mut Watch) -> Vec<(u64, Presence)> {
        std::iter::from_fn(|| watch.next_news()).map(|news| (news.incarnation, news.presence)).collect()
    }

    /// Looks every so often until then, and answers each question so. True: it answers our own, too.
    fn pass(watch: &mut Watch, from_ms: u64, until_ms: u64, answer: Status, is_proved: bool) {
        for now_ms in (from_ms..=until_ms).step_by(TICK_MS as usize) {
            for asked in watch.look(now_ms) {
                watch.answered(asked, answer, now_ms);
                if is_proved {
                    watch.proved(now_ms);
                }
            }
        }
    }

    #[test]
    fn whom_nobody_hears_for_is_dead_in_time() {
        let mut watch = Watch::default();
        assert!(watch.heard(said("a", 7), 0));
        assert!(!watch.heard(said("a", 7), 300));
        pass(&mut watch, 300, 300 + 800, Status::NoService, true);
        assert_eq!(news(&mut watch), [(7, Up)]);
        pass(&mut watch, 300 + 900, 300 + 1_200, Status::NoService, true);
        assert_eq!(news(&mut watch), [(7, Suspect)]);
        pass(&mut watch, 300 + 1_300, 300 + 1_300, Status::NoService, true);
        assert_eq!(news(&mut watch), [(7, Left)]);
        assert!(watch.heard(said("a", 7), 5_000), "it comes back");
        assert_eq!(news(&mut watch), [(7, Up)]);
    }

    #[test]
    fn who_does_not_answer_is_dead_only_if_we_can_be_heard() {
        for is_proved in [true, false] {
            let mut watch = Watch::default();
            watch.heard(said("a", 7), 0);
            pass(&mut watch, 0, 2_600, Status::Timeout, is_proved);
            assert_eq!(news(&mut watch), [(7, Up), (7, Suspect)]);
            pass(&mut watch, 2_700, 2_700, Status::Timeout, is_proved);
            assert_eq!(news(&mut watch), if is_proved { vec![(7, Left)] } else { vec![] });
        }
    }

    #[test]
    fn who_answers_in_the_end_lives() {
        let mut watch = Watch::default();
        watch.heard(said("a", 7), 0);
        // Changing the server, it is not there for a moment.
        pass(&mut watch, 0, 1_200, Status::NoService, true);
        watch.heard(said("a", 7), 1_250);
        pass(&mut watch, 1_300, 2_400, Status::NoService, true);
        assert_eq!(news(&mut watch), [(7, Up), (7, Suspect), (7, Up), (7, Suspect)]);
    }

    #[test]
    fn while_we_stand_still_nobody_is_silent() {
        let mut watch = Watch::default();
        watch.heard(said("a", 7), 0);
        watch.look(0);
        assert!(watch.look(60_000).is_empty());
        assert_eq!(news(&mut watch), [(7, Up)]);
    }

    #[test]
    fn while_the_link_is_down_nobody_dies() {
        let mut watch = Watch::default();
        watch.heard(said("a", 7), 0);
        watch.heard(said("b", 8), 0);
        watch.lost();
        watch.lost();
        assert_eq!(news(&mut watch), [(7, Up), (8, Up), (7, Unknown), (8, Unknown)]);
        // Heard late.
        assert!(!watch.heard(said("a", 7), 100) && !watch.heard(said("c", 9), 100));
        assert_eq!(news(&mut watch), []);
        watch.regained(50_000);
        watch.heard(said("a", 7), 50_100);
        pass(&mut watch, 50_100, 50_000 + GRACE_MS, Status::NoService, true);
        assert_eq!(news(&mut watch), [(7, Up), (7, Suspect), (7, Left)]);
        pass(&mut watch, 50_000 + GRACE_MS, 50_000 + GRACE_MS + DESERTED_MS, Status::NoService, true);
        assert_eq!(news(&mut watch), [(8, Suspect), (8, Left)]);
    }

    #[test]
    fn a_goodbye_is_the_last_word() {
        let mut watch = Watch::default();
        watch.heard(said("a", 7), 0);
        watch.heard(Heartbeat { is_leaving: true, ..said("a", 7) }, 10);
        assert!(!watch.heard(said("a", 7), 20), "it was on its way");
        assert!(!watch.heard(said("a", 7), 10 + GRACE_MS - 1), "late");
        assert_eq!(news(&mut watch), [(7, Up), (7, Left)]);
        assert!(watch.heard(Heartbeat { since_ms: 2, ..said("a", 7) }, 30), "it has joined anew");
        watch.heard(Heartbeat { is_leaving: true, ..said("b", 8) }, 40);
        assert!(watch.heard(said("b", 8), 40 + GRACE_MS), "somebody else had said it");
    }

    #[test]
    fn who_comes_back_replaces_its_suspected_predecessor() {
        let mut watch = Watch::default();
        watch.heard(said("a", 7), 0);
        pass(&mut watch, 0, 900, Status::Timeout, true);
        assert!(watch.heard(said("a", 8), 1_000));
        assert_eq!(news(&mut watch), [(7, Up), (7, Suspect), (7, Left), (8, Up)]);
    }

    #[test]
    fn of_more_members_than_the_bound_no_notice_is_taken_until_one_leaves() {
        let mut watch = Watch::default();
        for incarnation in 1..=MEMBERS_MAX as u64 {
            assert!(watch.heard(said("a", incarnation), 0));
        }
        assert!(!watch.heard(said("b", 99_999), 0));
        assert!(!watch.heard(said("a", 1), 0), "who is known goes on");
        assert_eq!((watch.members().count(), news(&mut watch).len()), (MEMBERS_MAX, MEMBERS_MAX));
        watch.heard(Heartbeat { is_leaving: true, ..said("a", 1) }, 1);
        assert!(watch.heard(said("b", 99_999), 2));
    }

    #[test]
    fn of_more_news_than_the_bound_the_oldest_are_lost() {
        let mut watch = Watch::default();
        for since_ms in 0..NEWS_MAX as u64 {
            let said = Heartbeat { since_ms, ..said("a", 7) };
            assert!(watch.heard(said.clone(), 0));
            watch.heard(Heartbeat { is_leaving: true, ..said }, 0);
        }
        watch.heard(said("b", 8), 0);
        let left = news(&mut watch);
        assert_eq!((left.len(), left[0], left[NEWS_MAX - 1]), (NEWS_MAX, (7, Left), (8, Up)));
        assert_eq!(watch.goodbyes.len(), GOODBYES_MAX);
    }
}
