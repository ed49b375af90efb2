//! Messages inside the process. Everything is called with nothing locked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::cluster::engine::{Answer, Done, Failure, Hear, Mark, Message, ReplyTo, Sink, SubscriptionKey};
use crate::status::{Error, Result, Status};

/// Who hears what, and who waits for which answer.
#[derive(Default)]
pub(super) struct Bus {
    state: Mutex<State>,
    /// Whose turn it is in the groups.
    turn: AtomicUsize,
}

#[derive(Default)]
struct State {
    subscriptions: Vec<Subscription>,
    waiting: HashMap<u64, Done<Answer>>,
    gathering: HashMap<u64, (Hear, Done<()>)>,
    number_last: u64,
    is_closed: bool,
}

struct Subscription {
    key: SubscriptionKey,
    pattern: Box<str>,
    group: Option<Box<str>>,
    sink: Sink,
}

/// A request that is to be sent.
pub(super) struct Request {
    pub(super) number: u64,
}

/// Requests that wait for an answer at once.
const REQUESTS_MAX: usize = 65_536;

impl State {
    fn request(&mut self) -> Result<Request> {
        if self.is_closed {
            return Err(Status::Stopped.into());
        }
        if self.waiting.len() + self.gathering.len() >= REQUESTS_MAX {
            return Err(Error::new(Status::Again, format!("{REQUESTS_MAX} requests wait for their answers")));
        }
        self.number_last += 1;
        Ok(Request { number: self.number_last })
    }
}

impl Bus {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn subscribe(&self, pattern: &str, group: Option<&str>, sink: Sink) -> SubscriptionKey {
        let mut state = self.lock();
        state.number_last += 1;
        let key = SubscriptionKey(state.number_last);
        state.subscriptions.push(Subscription { key, pattern: pattern.into(), group: group.map(Box::from), sink });
        key
    }

    pub(super) fn unsubscribe(&self, key: SubscriptionKey) {
        let mut state = self.lock();
        let at = state.subscriptions.iter().position(|subscription| subscription.key == key);
        let removed = at.map(|at| state.subscriptions.remove(at));
        drop(state);
        drop(removed);
    }

    /// Who hears a subject now: everybody without a group, and one of each group.
    fn hearers(&self, subject: &str) -> Vec<Sink> {
        let state = self.lock();
        let mut sinks = Vec::new();
        let mut groups: HashMap<&str, Vec<&Sink>> = HashMap::new();
        for subscription in state.subscriptions.iter().filter(|at| matches(&at.pattern, subject)) {
            match &subscription.group {
                None => sinks.push(subscription.sink.clone()),
                Some(group) => groups.entry(group).or_default().push(&subscription.sink),
            }
        }
        if !groups.is_empty() {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            sinks.extend(groups.values().map(|group| group[turn % group.len()].clone()));
        }
        sinks
    }

    /// Says whether anybody has heard it.
    pub(super) fn publish(&self, subject: &str, payload: &[u8], reply: Option<&ReplyTo>) -> bool {
        self.send(&Message { subject, payload, reply: reply.cloned(), mark: Mark::None })
    }

    fn send(&self, message: &Message<'_>) -> bool {
        let sinks = self.hearers(message.subject);
        for sink in &sinks {
            sink(message);
        }
        !sinks.is_empty()
    }

    /// Makes a place for an answer.
    pub(super) fn await_answer(&self, done: Done<Answer>) -> Result<Request> {
        let mut state = self.lock();
        let request = state.request()?;
        state.waiting.insert(request.number, done);
        Ok(request)
    }

    /// Makes a place for many.
    pub(super) fn await_answers(&self, hear: Hear, done: Done<()>) -> Result<Request> {
        let mut state = self.lock();
        let request = state.request()?;
        state.gathering.insert(request.number, (hear, done));
        Ok(request)
    }

    pub(super) fn ask(&self, subject: &str, payload: &[u8], request: Request) {
        let reply = ReplyTo(request.number.to_string().into());
        if !self.publish(subject, payload, Some(&reply)) {
            self.finish(request.number, Err(Error::new(Status::NoService, format!("{subject}: nobody is there"))));
        }
    }

    pub(super) fn ask_all(&self, subject: &str, payload: &[u8], request: Request) {
        let reply = ReplyTo(request.number.to_string().into());
        if !self.publish(subject, payload, Some(&reply)) {
            self.close_gathering(request.number);
        }
    }

    /// There are enough answers, or no more are waited for.
    pub(super) fn close_gathering(&self, number: u64) {
        let gathered = self.lock().gathering.remove(&number);
        if let Some((_, done)) = gathered {
            done(Ok(()));
        }
    }

    /// Asks a question whose answers go to a subject.
    pub(super) fn ask_for(&self, subject: &str, payload: &[u8], reply: &ReplyTo) {
        if !self.publish(subject, payload, Some(reply)) {
            self.send(&Message { subject: &reply.0, payload: b"", reply: None, mark: Mark::Unheard });
        }
    }

    /// A request's answer goes by its number, a question's by its subject.
    pub(super) fn answer(&self, to: &ReplyTo, payload: &[u8], failure: Option<Failure<'_>>) {
        if let Ok(number) = to.0.parse() {
            let hear = self.lock().gathering.get(&number).map(|(hear, _)| Hear::clone(hear));
            if let Some(hear) = hear {
                if hear(payload) {
                    self.close_gathering(number);
                }
                return;
            }
            self.finish(number, Ok(Answer { payload: payload.to_vec() }));
        } else {
            let mark = failure.map_or(Mark::None, Mark::Failure);
            self.send(&Message { subject: &to.0, payload, reply: None, mark });
        }
    }

    pub(super) fn time_out(&self, number: u64) {
        self.finish(number, Err(Error::new(Status::Timeout, "no answer in time")));
    }

    pub(super) fn forget(&self, number: u64) {
        let mut state = self.lock();
        let forgotten = (state.waiting.remove(&number), state.gathering.remove(&number));
        drop(state);
        drop(forgotten);
    }

    fn finish(&self, number: u64, result: Result<Answer>) {
        let done = self.lock().waiting.remove(&number);
        if let Some(done) = done {
            done(result);
        }
    }

    /// Nobody hears or waits any more.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let (subscriptions, waiting) = (std::mem::take(&mut state.subscriptions), std::mem::take(&mut state.waiting));
        let gathering = std::mem::take(&mut state.gathering);
        drop(state);
        drop(subscriptions);
        for (_, done) in gathering.into_values() {
            done(Err(Status::Stopped.into()));
        }
        for done in waiting.into_values() {
            done(Err(Status::Stopped.into()));
        }
    }
}

/// Whether a subject is one that a pattern is for.
fn matches(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;
    use std::sync::{Arc, mpsc};

    fn counting(count: &Arc<AtomicU32>) -> Sink {
        let count = Arc::clone(count);
        Arc::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        })
    }

    #[test]
    fn many_answers_until_there_are_enough() {
        let bus = Arc::new(Bus::default());
        for answer in ["1", "2", "3"] {
            let answerer = Arc::clone(&bus);
            let sink = move |message: &Message<'_>| {
                answerer.answer(message.reply.as_ref().unwrap(), answer.as_bytes(), None);
            };
            bus.subscribe("ask", None, Arc::new(sink));
        }
        for (enough, expected) in [(2, "12"), (9, "123")] {
            let heard = Arc::new(Mutex::new(String::new()));
            let (tell, told) = mpsc::channel();
            let hearing = Arc::clone(&heard);
            let hear = move |answer: &[u8]| {
                let mut heard = hearing.lock().unwrap();
                heard.push(char::from(answer[0]));
                heard.len() >= enough
            };
            let request =
                bus.await_answers(Arc::new(hear), Box::new(move |result| tell.send(result).unwrap())).unwrap();
            let number = request.number;
            bus.ask_all("ask", b"", request);
            assert_eq!(told.try_recv().is_ok(), enough < 3);
            bus.close_gathering(number);
            assert_eq!(*heard.lock().unwrap(), expected);
        }
        let (tell, told) = mpsc::channel();
        let done = move |result: Result<()>| tell.send(result).unwrap();
        let request = bus.await_answers(Arc::new(|_| false), Box::new(done)).unwrap();
        bus.ask_all("nobody", b"", request);
        assert!(told.try_recv().unwrap().is_ok());
    }

    #[test]
    fn patterns_are_those_of_nats() {
        for (pattern, subject, is_match) in [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a.b", "a.b.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*.c", "a.b.c", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
        ] {
            assert_eq!(matches(pattern, subject), is_match, "{pattern} {subject}");
        }
    }

    #[test]
    fn one_of_a_group_hears_and_everybody_else() {
        let bus = Bus::default();
        let (group, all) = (Arc::default(), Arc::default());
        for _ in 0..3 {
            bus.subscribe("jobs", Some("workers"), counting(&group));
        }
        let keys = [bus.subscribe("jobs", None, counting(&all)), bus.subscribe("*", None, counting(&all))];
        assert!(bus.publish("jobs", b"", None));
        assert_eq!((group.load(Ordering::Relaxed), all.load(Ordering::Relaxed)), (1, 2));
        keys.into_iter().for_each(|key| bus.unsubscribe(key));
        assert!(bus.publish("jobs", b"", None));
        assert_eq!(all.load(Ordering::Relaxed), 2);
        assert!(!bus.publish("other", b"", None));
    }

    #[test]
    fn each_request_has_exactly_one_end() {
        let bus = Arc::new(Bus::default());
        let (told, ends) = mpsc::channel();
        let done = |told: &mpsc::Sender<_>| -> Done<Answer> {
            let told = told.clone();
            Box::new(move |result: Result<Answer>| told.send(result.map_err(|error| error.status)).unwrap())
        };
        bus.ask("nobody", b"", bus.await_answer(done(&told)).unwrap());
        assert_eq!(ends.recv().unwrap().unwrap_err(), Status::NoService);
        let answering = Arc::clone(&bus);
        bus.subscribe(
            "echo",
            None,
            Arc::new(move |asked: &Message<'_>| {
                let reply = asked.reply.as_ref().unwrap();
                answering.answer(reply, asked.payload, None);
                answering.answer(reply, b"again", None);
            }),
        );
        bus.ask("echo", b"hi", bus.await_answer(done(&told)).unwrap());
        assert_eq!(ends.recv().unwrap().unwrap().payload, b"hi");
        let late = bus.await_answer(done(&told)).unwrap();
        bus.time_out(late.number);
        assert_eq!(ends.recv().unwrap().unwrap_err(), Status::Timeout);
        let open = bus.await_answer(done(&told)).unwrap();
        bus.close();
        assert_eq!(ends.recv().unwrap().unwrap_err(), Status::Stopped);
        bus.time_out(open.number);
        assert!(ends.try_recv().is_err());
        assert!(bus.await_answer(done(&told)).is_err());
    }
}
