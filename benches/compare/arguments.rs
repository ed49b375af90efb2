//! The command line.

use crate::plan::{self, BASELINE, PEERS, Peer, SUBJECT};
use crate::scenarios::{SCENARIOS, Scenario};
use crate::targets;
use std::path::PathBuf;
use std::time::Duration;

/// With fewer pairs the figures are not written to the docs.
const PAIRS_LEAST: usize = 5;

pub(crate) const USAGE: &str = "\
usage: compare [options]
  --quick              what has targets only, 5 pairs of 0.15 s instead of 11 of 0.4 s; prints the targets, writes no file
  --pairs N            pairs for each scenario and peer with a target; at most 6 for the others
  --seconds S          length of a run, after a quarter of that for warming up
  --scenario A,B       these scenarios only
  --peers A,B          these peers only
  --subject NAME       compare this server with the peers, not ahoy
  --cpus S,L           CPU of the server, CPU of the load
  --programs DIR       where the servers are; default: target/peers
  --output FILE        write the report there; default: docs/benchmarks.md when the whole plan is run
  --list               print peers and scenarios
  --help               print this
";

pub(crate) struct Arguments {
    pub(crate) pairs: usize,
    pub(crate) duration: Duration,
    /// What has targets only.
    pub(crate) quick: bool,
    pub(crate) scenarios: Vec<&'static Scenario>,
    pub(crate) subject: &'static Peer,
    pub(crate) peers: Vec<&'static Peer>,
    /// Of the server, of the load.
    pub(crate) cpus: Option<(usize, usize)>,
    pub(crate) programs: PathBuf,
    pub(crate) output: Option<PathBuf>,
}

pub(crate) enum Command {
    Compare(Arguments),
    Print(String),
}

impl Arguments {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Command, String> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let mut whole = true;
        let mut arguments = Arguments {
            pairs: 11,
            duration: Duration::from_millis(400),
            quick: false,
            scenarios: SCENARIOS.iter().collect(),
            subject: named(SUBJECT, "peer", plan::peer)?,
            peers: Vec::new(),
            cpus: None,
            programs: root.join("target/peers"),
            output: None,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--bench" => {} // cargo's own
                "--quick" => {
                    (arguments.pairs, arguments.duration) = (5, Duration::from_millis(150));
                    (arguments.quick, whole) = (true, false);
                }
                "--pairs" => {
                    let text = value()?;
                    arguments.pairs =
                        text.parse().ok().filter(|n| (1..1000).contains(n)).ok_or(format!("not a number: {text}"))?;
                    whole &= arguments.pairs >= PAIRS_LEAST;
                }
                "--seconds" => {
                    let text = value()?;
                    let seconds = text.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
                    arguments.duration = seconds.filter(|s| !s.is_zero()).ok_or(format!("not a time: {text}"))?;
                    whole = false;
                }
                "--scenario" | "--scenarios" => {
                    arguments.scenarios = list(&value()?, "scenario", plan::scenario)?;
                    whole = false;
                }
                "--peer" | "--peers" => {
                    arguments.peers = list(&value()?, "peer", plan::peer)?;
                    whole = false;
                }
                "--subject" => {
                    arguments.subject = named(&value()?, "peer", plan::peer)?;
                    whole = false;
                }
                "--cpus" => {
                    let text = value()?;
                    let pair = text.split_once(',').and_then(|(s, l)| Some((s.parse().ok()?, l.parse().ok()?)));
                    arguments.cpus = Some(pair.ok_or(format!("not two CPUs: {text}"))?);
                }
                "--programs" => arguments.programs = value()?.into(),
                "--output" => arguments.output = Some(value()?.into()),
                "--list" => return Ok(Command::Print(tables())),
                "--help" => return Ok(Command::Print(USAGE.into())),
                _ => return Err(format!("unknown: {word}")),
            }
        }
        if arguments.peers.is_empty() {
            arguments.peers = PEERS.iter().filter(|peer| peer.name != arguments.subject.name).collect();
        }
        if whole && arguments.output.is_none() {
            arguments.output = Some(root.join("docs/benchmarks.md"));
        }
        Ok(Command::Compare(arguments))
    }
}

impl Arguments {
    /// The peers that the subject is compared with in this scenario.
    pub(crate) fn peers_in(&self, scenario: &Scenario) -> Vec<&'static Peer> {
        let can = |peer: &&&'static Peer| peer.takes_part_in(scenario) && self.subject.takes_part_in(scenario);
        let mut peers: Vec<_> = self.peers.iter().filter(can).copied().collect();
        if self.quick {
            // Where the target is a figure of ours alone, anyone will do.
            let other = peers.iter().find(|peer| peer.name == BASELINE).or(peers.last()).copied();
            peers.retain(|peer| targets::are_for(scenario, peer));
            if peers.is_empty() && targets::are_in(scenario) {
                peers.extend(other);
            }
        }
        peers
    }
}

fn named<T>(name: &str, what: &str, find: impl Fn(&str) -> Option<&'static T>) -> Result<&'static T, String> {
    find(name).ok_or_else(|| format!("no such {what}: {name} (see --list)"))
}

fn list<T>(
    names: &str,
    what: &str,
    find: impl Copy + Fn(&str) -> Option<&'static T>,
) -> Result<Vec<&'static T>, String> {
    names.split(',').map(|name| named(name, what, find)).collect()
}

fn tables() -> String {
    let peers = PEERS.iter().map(|peer| format!("  {:<17} {}\n", peer.name, peer.note));
    let scenarios = SCENARIOS.iter().map(|scenario| format!("  {:<17} {}\n", scenario.name, scenario.title));
    format!("peers\n{}scenarios\n{}", peers.collect::<String>(), scenarios.collect::<String>())
}
