//! Reads what several processes have done to a bucket, one call in a line, and says for each key whether some order of the
//! calls explains all answers: each call somewhere between its begin and its end, and a call whose answer was lost anywhere
//! after its begin, or nowhere.
//!
//! A line is PROCESS BEGIN END KEY KIND VALUE EXPECTED STATUS GOT REVISION, as tests/cluster/kv.c and test_kv.py write it.

use std::collections::BTreeMap;
use std::io::BufRead;

use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

#[derive(Clone, Debug, PartialEq)]
enum Call {
    Get,
    Put(String),
    Create(String),
    Update(String, u64),
    Delete,
}

#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Got(String, u64),
    Done(u64),
    Deleted,
    NoKey,
    Exists,
    Conflict,
}

/// A key. Revision 0: not known, because the answer to the change was lost.
#[derive(Clone, Debug, Default)]
struct Key {
    value: Option<(String, u64)>,
    last: u64,
}

impl Key {
    fn set(&mut self, value: &str, revision: u64) {
        self.value = Some((value.to_owned(), revision));
        self.last = self.last.max(revision);
    }
}

impl SequentialSpec for Key {
    type Op = Call;
    type Ret = Answer;

    /// For a call whose answer was lost.
    fn invoke(&mut self, call: &Call) -> Answer {
        match call {
            Call::Get => {}
            Call::Put(value) => self.set(value, 0),
            Call::Create(value) => {
                if self.value.is_none() {
                    self.set(value, 0);
                }
            }
            Call::Update(value, expected) => {
                if self.value.as_ref().is_some_and(|(_, is)| is == expected || *is == 0) {
                    self.set(value, 0);
                }
            }
            Call::Delete => self.value = None,
        }
        Answer::Deleted
    }

    fn is_valid_step(&mut self, call: &Call, answer: &Answer) -> bool {
        let last = self.last;
        match (call, answer) {
            (Call::Get, Answer::NoKey) => self.value.is_none(),
            (Call::Get, Answer::Got(got, revision)) => match &mut self.value {
                Some((value, is)) if value == got && (is == revision || *is == 0 && *revision > last) => {
                    *is = *revision;
                    self.last = last.max(*revision);
                    true
                }
                _ => false,
            },
            (Call::Put(value), Answer::Done(revision)) if *revision > last => {
                self.set(value, *revision);
                true
            }
            (Call::Create(value), Answer::Done(revision)) if *revision > last && self.value.is_none() => {
                self.set(value, *revision);
                true
            }
            (Call::Create(_), Answer::Exists) => self.value.is_some(),
            (Call::Update(value, expected), Answer::Done(revision)) if *revision > last => {
                let fits = self.value.as_ref().is_some_and(|(_, is)| is == expected || *is == 0);
                self.set(value, *revision);
                fits
            }
            (Call::Update(_, expected), Answer::Conflict) => {
                self.value.as_ref().is_none_or(|(_, is)| is != expected)
            }
            (Call::Delete, Answer::Deleted) => {
                self.value = None;
                true
            }
            _ => false,
        }
    }
}

/// A call that has an answer; None: it is lost.
struct Line {
    process: u64,
    begin: u64,
    end: u64,
    call: Call,
    answer: Option<Answer>,
}

/// None: it says nothing, because it was a read that failed or a change that was not done.
fn parse(line: &str) -> Option<(String, Line)> {
    let part: Vec<&str> = line.split(' ').collect();
    let [process, begin, end, key, kind, value, expected, status, got, revision] = part[..] else {
        panic!("not a call: {line}");
    };
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("no number: {line}"));
    let call = match kind {
        "get" => Call::Get,
        "put" => Call::Put(value.to_owned()),
        "create" => Call::Create(value.to_owned()),
        "update" => Call::Update(value.to_owned(), number(expected)),
        "delete" => Call::Delete,
        _ => panic!("no call: {line}"),
    };
    let answer = match (status, &call) {
        ("AHOY_OK", Call::Get) => Some(Answer::Got(got.to_owned(), number(revision))),
        ("AHOY_OK", Call::Delete) => Some(Answer::Deleted),
        ("AHOY_OK", _) => Some(Answer::Done(number(revision))),
        ("AHOY_ERR_NO_KEY", Call::Get) => Some(Answer::NoKey),
        ("AHOY_ERR_KEY_EXISTS", _) => Some(Answer::Exists),
        ("AHOY_ERR_REVISION", _) => Some(Answer::Conflict),
        ("AHOY_ERR_UNKNOWN_OUTCOME", Call::Get) => return None,
        ("AHOY_ERR_UNKNOWN_OUTCOME", _) => None,
        ("AHOY_ERR_DISCONNECTED" | "AHOY_ERR_TIMEOUT", _) => return None,
        _ => panic!("no answer: {line}"),
    };
    Some((key.to_owned(), Line { process: number(process), begin: number(begin), end: number(end), call, answer }))
}

/// Whether an order explains the calls on one key.
fn is_linearizable(lines: &[Line]) -> bool {
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        events.push((line.begin, true, at));
        if line.answer.is_some() {
            events.push((line.end, false, at));
        }
    }
    events.sort_unstable();
    let mut tester = LinearizabilityTester::new(Key::default());
    for (_, begins, at) in events {
        let line = &lines[at];
        // A lost answer never comes: its process goes on under another number.
        let thread = if line.answer.is_some() { (line.process, 0) } else { (line.process, at + 1) };
        let heard = match (begins, &line.answer) {
            (false, Some(answer)) => tester.on_return(thread, answer.clone()).map(drop),
            _ => tester.on_invoke(thread, line.call.clone()).map(drop),
        };
        heard.expect("each process makes one call at a time");
    }
    tester.is_consistent()
}

fn check(input: impl BufRead) -> Result<String, String> {
    let mut keys: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    for line in input.lines() {
        if let Some((key, line)) = parse(&line.map_err(|error| error.to_string())?) {
            keys.entry(key).or_default().push(line);
        }
    }
    let (mut calls, mut lost) = (0, 0);
    for (key, lines) in &keys {
        calls += lines.len();
        lost += lines.iter().filter(|line| line.answer.is_none()).count();
        if !is_linearizable(lines) {
            return Err(format!("no order explains the {} calls on {key}", lines.len()));
        }
    }
    Ok(format!("{calls} calls on {} keys, {lost} answers lost", keys.len()))
}

fn main() {
    // The search is as deep as the history is long.
    let search = std::thread::Builder::new().stack_size(1 << 30).spawn(|| check(std::io::stdin().lock()));
    match search.expect("a thread").join().expect("no panic") {
        Ok(text) => println!("linearizable: {text}"),
        Err(text) => {
            println!("NOT linearizable: {text}");
            std::process::exit(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(text: &str) -> bool {
        check(text.as_bytes()).is_ok()
    }

    #[test]
    fn what_is_and_what_is_not() {
        let put = "1 10 20 k put a 0 AHOY_OK - 1\n";
        let lost = "2 30 99 k put b 0 AHOY_ERR_UNKNOWN_OUTCOME - 0\n";
        for (lines, expected) in [
            (format!("{put}2 30 40 k get - 0 AHOY_OK a 1"), true),
            (format!("{put}2 30 40 k get - 0 AHOY_ERR_NO_KEY - 0"), false),
            (format!("{put}2 15 40 k get - 0 AHOY_ERR_NO_KEY - 0"), true),
            (format!("{put}{lost}1 40 50 k get - 0 AHOY_OK a 1"), true),
            (format!("{put}{lost}1 40 50 k get - 0 AHOY_OK b 2"), true),
            // The lost one is seen, and then no more.
            (format!("{put}{lost}1 40 50 k get - 0 AHOY_OK b 2\n1 60 70 k get - 0 AHOY_OK a 1"), false),
            // Long after its call.
            (format!("{put}{lost}1 100 110 k get - 0 AHOY_OK a 1\n1 160 170 k get - 0 AHOY_OK b 2"), true),
            (format!("{put}1 30 40 k update c 1 AHOY_OK - 2\n2 50 60 k update d 1 AHOY_OK - 3"), false),
            (format!("{put}1 30 40 k update c 1 AHOY_OK - 2\n2 50 60 k update d 1 AHOY_ERR_REVISION - 0"), true),
            (format!("{put}2 30 40 k create c 0 AHOY_OK - 2"), false),
            (format!("{put}2 30 40 k delete - 0 AHOY_OK - 0\n1 50 60 k create c 0 AHOY_OK - 3"), true),
            (format!("{put}2 30 40 k put c 0 AHOY_OK - 3\n1 50 60 k get - 0 AHOY_OK a 1"), false),
        ] {
            assert_eq!(verdict(&lines), expected, "{lines}");
        }
    }
}
