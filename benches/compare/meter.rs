//! What one run measures: after the warm-up, requests, their times, and what both sides cost.

use crate::scenarios::Metric;
use crate::server::{self, Server};
use crate::sys;
use hdrhistogram::Histogram;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// The result of one run.
pub(crate) struct Sample {
    pub(crate) values: Vec<(Metric, f64)>,
    /// The times of its requests in microseconds, at each of `QUANTILES`; none where they have no times.
    pub(crate) times: Vec<f64>,
    /// Nothing for a scenario that has no time.
    pub(crate) effort: Option<Effort>,
}

/// Where the curve of the times is drawn through.
pub(crate) const QUANTILES: [f64; 8] = [0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999];

/// Shares of the measured time, 0 to 1.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) server_busy: f64,
    pub(crate) load_busy: f64,
    /// How long the one of the two that was disturbed more wanted its CPU and did not get it.
    pub(crate) waited: f64,
}

impl Sample {
    /// Of a scenario without a load.
    pub(crate) fn of(values: Vec<(Metric, f64)>) -> Sample {
        Sample { values, times: Vec::new(), effort: None }
    }

    pub(crate) fn value(&self, metric: Metric) -> f64 {
        self.values.iter().find(|(m, _)| *m == metric).map_or(f64::NAN, |(_, value)| *value)
    }
}

/// Counters that only grow, read at one moment.
struct Reading {
    at: Instant,
    server_cpu: Duration,
    load_cpu: Duration,
    server_waited: Duration,
    load_waited: Duration,
}

pub(crate) struct Meter<'a> {
    server: &'a Server,
    started: Instant,
    warm_up: Duration,
    duration: Duration,
    begin: Option<Reading>,
    /// Messages in each request.
    messages: u64,
    requests: u64,
    bytes: u64,
    nanoseconds: Histogram<u64>,
}

impl<'a> Meter<'a> {
    /// `messages`: in each request.
    pub(crate) fn start(server: &'a Server, duration: Duration, messages: usize) -> io::Result<Meter<'a>> {
        let nanoseconds = Histogram::new_with_bounds(1, 10_000_000_000, 3).map_err(io::Error::other)?;
        let started = Instant::now();
        Ok(Meter {
            server,
            started,
            warm_up: duration / 4,
            duration,
            begin: None,
            messages: messages as u64,
            requests: 0,
            bytes: 0,
            nanoseconds,
        })
    }

    /// Tells that a request is done, and how long it took.
    pub(crate) fn request(&mut self, time: Duration) {
        if self.begin.is_some() {
            self.requests += 1;
            self.nanoseconds.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        }
    }

    /// The same of a request that was to be sent at `due`, and whose answer came at `answered`.
    pub(crate) fn request_due(&mut self, due: Instant, answered: Instant) {
        if self.begin.as_ref().is_some_and(|begin| begin.at <= due) {
            self.request(answered - due);
        }
    }

    /// Tells that so many bytes have arrived.
    pub(crate) fn received(&mut self, bytes: usize) {
        if self.begin.is_some() {
            self.bytes += bytes as u64;
        }
    }

    /// Call it between requests, often. The result, when the time is over.
    pub(crate) fn turn(&mut self) -> io::Result<Option<Sample>> {
        if self.is_over()? { self.finish().map(Some) } else { Ok(None) }
    }

    /// Begins to measure when it is warm.
    pub(crate) fn is_over(&mut self) -> io::Result<bool> {
        let now = Instant::now();
        match &self.begin {
            None if now - self.started >= self.warm_up => self.begin = Some(self.read()?),
            Some(begin) => return Ok(now - begin.at >= self.duration),
            None => {}
        }
        Ok(false)
    }

    /// The result up to now.
    pub(crate) fn finish(&self) -> io::Result<Sample> {
        let begin = self.begin.as_ref().ok_or_else(|| io::Error::other("it was never warm"))?;
        self.sample(begin, &self.read()?)
    }

    fn read(&self) -> io::Result<Reading> {
        Ok(Reading {
            server_cpu: self.server.cpu()?,
            load_cpu: sys::thread_cpu()?,
            server_waited: self.server.waited()?,
            load_waited: server::waited_for_cpu(Path::new("/proc/thread-self"))?,
            at: Instant::now(),
        })
    }

    fn sample(&self, begin: &Reading, end: &Reading) -> io::Result<Sample> {
        if self.requests == 0 && self.bytes == 0 {
            return Err(io::Error::other("not one request was answered"));
        }
        let seconds = (end.at - begin.at).as_secs_f64();
        let requests = self.requests as f64;
        let messages = (self.requests * self.messages) as f64;
        let gib = self.bytes as f64 / (1 << 30) as f64;
        let server_cpu = (end.server_cpu - begin.server_cpu).as_secs_f64();
        let load_cpu = (end.load_cpu - begin.load_cpu).as_secs_f64();
        let waited = (end.server_waited - begin.server_waited).max(end.load_waited - begin.load_waited);
        let microseconds = |quantile| self.nanoseconds.value_at_quantile(quantile) as f64 / 1e3;
        Ok(Sample {
            values: vec![
                (Metric::Rate, requests / seconds),
                (Metric::CpuPerRequest, server_cpu * 1e6 / requests),
                (Metric::MessageRate, messages / seconds),
                (Metric::MessagesPerCpu, messages / server_cpu),
                (Metric::CpuPerMessage, server_cpu * 1e9 / messages),
                (Metric::GibRate, gib / seconds),
                (Metric::CpuPerGib, server_cpu * 1e3 / gib),
                (Metric::P50, microseconds(0.5)),
                (Metric::P99, microseconds(0.99)),
                (Metric::P999, microseconds(0.999)),
            ],
            times: QUANTILES.iter().map(|&quantile| microseconds(quantile)).collect(),
            effort: Some(Effort {
                server_busy: server_cpu / seconds,
                load_busy: load_cpu / seconds,
                waited: waited.as_secs_f64() / seconds,
            }),
        })
    }
}
