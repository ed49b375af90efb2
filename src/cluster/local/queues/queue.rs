//! One queue in memory: what waits, what is taken and until when, and who takes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::cluster::queues::{DUPLICATES_MS, Depth, JobSink, Terms};
use crate::status::{Error, Result, Status};

/// A job.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) number: u64,
    pub(super) payload: Arc<[u8]>,
    /// How often it was taken.
    pub(super) tries: u32,
}

#[derive(Default)]
pub(super) struct Queue {
    number_last: u64,
    waiting: VecDeque<Entry>,
    /// Until when they are to wait; by that time and their number.
    delayed: BTreeMap<(u64, u64), Entry>,
    taken: HashMap<u64, Held>,
    /// When which of them is to be given to somebody else.
    deadlines: BTreeSet<(u64, u64)>,
    ids: HashSet<Arc<str>>,
    /// When they can be forgotten.
    id_times: VecDeque<(u64, Arc<str>)>,
    works: VecDeque<Work>,
    /// Copies that somebody who works has asked for.
    replicas: u32,
    /// When the timer is due; None: there is none.
    timer_ms: Option<u64>,
    /// Somebody gives out what can be given out; and whether to look once more, because something has changed since.
    is_pumping: bool,
    pumps_again: bool,
}

struct Held {
    entry: Entry,
    deadline_ms: u64,
    ack_ms: u32,
}

struct Work {
    number: u64,
    ack_ms: u32,
    wanted: usize,
    sink: JobSink,
}

/// Ids that are remembered.
const IDS_MAX: usize = 1 << 20;

impl Queue {
    pub(super) fn knows(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    pub(super) fn forget_ids(&mut self, now_ms: u64) {
        while self.id_times.front().is_some_and(|(at_ms, _)| *at_ms <= now_ms) {
            if let Some((_, id)) = self.id_times.pop_front() {
                self.ids.remove(&id);
            }
        }
    }

    pub(super) fn keep(&mut self, payload: Arc<[u8]>, id: Option<String>, now_ms: u64) -> Result<()> {
        if self.replicas > 1 {
            return Err(Error::new(Status::Replicas, "the server has no cluster: there is one copy"));
        }
        self.waiting.try_reserve(1)?;
        if let Some(id) = id {
            if self.ids.len() >= IDS_MAX {
                return Err(Error::new(Status::Again, format!("{IDS_MAX} jobs had an id in the last two minutes")));
            }
            self.ids.try_reserve(1)?;
            self.id_times.try_reserve(1)?;
            let id: Arc<str> = id.into();
            self.ids.insert(Arc::clone(&id));
            self.id_times.push_back((now_ms + DUPLICATES_MS, id));
        }
        self.number_last += 1;
        self.waiting.push_back(Entry { number: self.number_last, payload, tries: 0 });
        Ok(())
    }

    // ---- Who takes

    pub(super) fn add_work(&mut self, number: u64, terms: Terms, sink: JobSink) {
        if terms.replicas > 0 {
            self.replicas = terms.replicas;
        }
        self.works.push_back(Work { number, ack_ms: terms.ack_ms, wanted: 0, sink });
    }

    /// To be dropped with nothing locked.
    pub(super) fn remove_work(&mut self, number: u64) -> Option<JobSink> {
        let at = self.works.iter().position(|work| work.number == number)?;
        self.works.remove(at).map(|work| work.sink)
    }

    pub(super) fn want(&mut self, number: u64, more: usize) {
        if let Some(work) = self.works.iter_mut().find(|work| work.number == number) {
            work.wanted += more;
        }
    }

    /// A job for whoever wants one, in turns.
    pub(super) fn give_out(&mut self, now_ms: u64) -> Option<(JobSink, Entry)> {
        let at = self.works.iter().position(|work| work.wanted > 0)?;
        let mut entry = self.waiting.pop_front()?;
        let mut work = self.works.remove(at)?;
        work.wanted -= 1;
        entry.tries = entry.tries.saturating_add(1);
        let (sink, ack_ms) = (Arc::clone(&work.sink), work.ack_ms);
        self.works.push_back(work);
        let deadline_ms = now_ms + u64::from(ack_ms);
        self.deadlines.insert((deadline_ms, entry.number));
        self.taken.insert(entry.number, Held { entry: entry.clone(), deadline_ms, ack_ms });
        Some((sink, entry))
    }

    /// Whether the caller is to give out what can be given out; otherwise somebody is at it, and looks again.
    pub(super) fn begin_pump(&mut self) -> bool {
        self.pumps_again = true;
        !std::mem::replace(&mut self.is_pumping, true)
    }

    /// Nothing can be given out. False: something has changed since that was last asked.
    pub(super) fn end_pump(&mut self) -> bool {
        self.is_pumping = std::mem::take(&mut self.pumps_again);
        !self.is_pumping
    }

    // ---- What becomes of a job

    /// None: it was taken again since, or has ended.
    fn held(&mut self, entry: &Entry) -> Option<Held> {
        let held = self.taken.get(&entry.number)?;
        if held.entry.tries != entry.tries {
            return None;
        }
        self.deadlines.remove(&(held.deadline_ms, entry.number));
        self.taken.remove(&entry.number)
    }

    pub(super) fn progress(&mut self, entry: &Entry, now_ms: u64) {
        if let Some(held) = self.held(entry) {
            let deadline_ms = now_ms + u64::from(held.ack_ms);
            self.deadlines.insert((deadline_ms, entry.number));
            self.taken.insert(entry.number, Held { deadline_ms, ..held });
        }
    }

    pub(super) fn put_back(&mut self, entry: &Entry, at_ms: u64) {
        if let Some(held) = self.held(entry) {
            self.delayed.insert((at_ms, entry.number), held.entry);
        }
    }

    /// It is done, also if it was given to somebody else meanwhile. False: it was before.
    pub(super) fn end(&mut self, entry: &Entry) -> bool {
        if let Some(held) = self.taken.remove(&entry.number) {
            return self.deadlines.remove(&(held.deadline_ms, entry.number));
        }
        let late = self.delayed.keys().find(|(_, number)| *number == entry.number).copied();
        if let Some(key) = late {
            return self.delayed.remove(&key).is_some();
        }
        let late = self.waiting.iter().position(|waiting| waiting.number == entry.number);
        late.and_then(|at| self.waiting.remove(at)).is_some()
    }

    /// What has waited, or was held, for long enough.
    pub(super) fn return_due(&mut self, now_ms: u64) {
        while let Some(first) = self.delayed.first_entry().filter(|first| first.key().0 <= now_ms) {
            self.waiting.push_back(first.remove());
        }
        while let Some((_, number)) = self.deadlines.first().copied().filter(|(at_ms, _)| *at_ms <= now_ms) {
            self.deadlines.pop_first();
            if let Some(held) = self.taken.remove(&number) {
                self.waiting.push_back(held.entry);
            }
        }
    }

    // ---- Time

    /// When a timer is to be started; None: one is due by then, or nothing is waited for.
    pub(super) fn next_timer(&mut self) -> Option<u64> {
        let delayed_ms = self.delayed.first_key_value().map(|((at_ms, _), _)| *at_ms);
        let deadline_ms = self.deadlines.first().map(|(at_ms, _)| *at_ms);
        let next_ms = [delayed_ms, deadline_ms].into_iter().flatten().min()?;
        if self.timer_ms.is_some_and(|timer_ms| timer_ms <= next_ms) {
            return None;
        }
        self.timer_ms = Some(next_ms);
        Some(next_ms)
    }

    pub(super) fn timer_is_over(&mut self, at_ms: u64) {
        if self.timer_ms == Some(at_ms) {
            self.timer_ms = None;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.delayed.len() + self.taken.len()
    }

    pub(super) fn depth(&self) -> Depth {
        Depth { jobs: self.len() as u64, in_hand: (self.taken.len() + self.delayed.len()) as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(jobs: usize, wanted: usize) -> Queue {
        let mut queue = Queue::default();
        for _ in 0..jobs {
            queue.keep(Arc::from(*b"job"), None, 0).unwrap();
        }
        queue.add_work(1, Terms { ack_ms: 100, replicas: 0 }, Arc::new(|_| {}));
        queue.want(1, wanted);
        queue
    }

    #[test]
    fn no_more_is_given_out_than_is_wanted() {
        let mut queue = queue(3, 2);
        assert!(queue.give_out(0).is_some() && queue.give_out(0).is_some() && queue.give_out(0).is_none());
        assert_eq!(queue.depth(), Depth { jobs: 3, in_hand: 2 });
        assert!(queue.remove_work(1).is_some());
        assert!(queue.give_out(0).is_none());
    }

    #[test]
    fn a_job_whose_time_is_over_comes_again_and_is_done_once() {
        let mut queue = queue(1, 3);
        let (_, first) = queue.give_out(0).unwrap();
        assert_eq!(queue.next_timer(), Some(100));
        assert_eq!(queue.next_timer(), None);
        queue.progress(&first, 50);
        queue.return_due(149);
        assert!(queue.give_out(149).is_none());
        queue.return_due(150);
        let (_, second) = queue.give_out(150).unwrap();
        assert_eq!((first.tries, second.tries), (1, 2));
        // Whoever had it first has no say any more, but that it is done.
        queue.put_back(&first, 150);
        queue.progress(&first, 200);
        assert_eq!(queue.depth().in_hand, 1);
        assert!(queue.end(&first));
        assert!(!queue.end(&second));
        assert_eq!((queue.len(), queue.deadlines.len()), (0, 0));
    }

    #[test]
    fn a_job_that_is_put_back_waits_for_its_delay() {
        let mut queue = queue(1, 2);
        let (_, entry) = queue.give_out(0).unwrap();
        queue.put_back(&entry, 70);
        assert_eq!(queue.next_timer(), Some(70));
        queue.return_due(69);
        assert!(queue.give_out(69).is_none());
        queue.return_due(70);
        queue.timer_is_over(70);
        assert_eq!(queue.give_out(70).unwrap().1.tries, 2);
    }

    #[test]
    fn an_id_is_known_for_two_minutes() {
        let mut queue = Queue::default();
        queue.keep(Arc::from(*b""), Some("one".to_owned()), 5).unwrap();
        assert!(queue.knows("one") && !queue.knows("two"));
        queue.forget_ids(DUPLICATES_MS + 4);
        assert!(queue.knows("one"));
        queue.forget_ids(DUPLICATES_MS + 5);
        assert!(!queue.knows("one"));
    }
}
