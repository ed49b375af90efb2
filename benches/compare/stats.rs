//! Pairs of runs, and what becomes of them.

use crate::meter::Sample;
use crate::scenarios::Metric;

/// Two runs, one after the other.
pub(crate) struct Pair {
    pub(crate) ours: Sample,
    pub(crate) theirs: Sample,
}

impl Pair {
    pub(crate) fn ratio(&self, metric: Metric) -> f64 {
        self.ours.value(metric) / self.theirs.value(metric)
    }
}

/// The median of some values, and its 95 % confidence interval.
///
/// The interval comes from order statistics: as many values lie below the true median as heads fall in so many
/// throws of a coin, however the values are distributed. Under nine values it is their whole range, which under six covers less.
#[derive(Clone, Copy)]
pub(crate) struct Median {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Median {
    /// None if there are no values.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Option<Median> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let count = values.len();
        if count == 0 {
            return None;
        }
        let median = f64::midpoint(values[(count - 1) / 2], values[count / 2]);
        let cut = values_outside(count);
        Some(Median { median, low: values[cut], high: values[count - 1 - cut] })
    }

    /// Its interval holds whenever those of the two do, and is thus the wider one.
    pub(crate) fn over(self, other: Median) -> Median {
        Median { median: self.median / other.median, low: self.low / other.high, high: self.high / other.low }
    }
}

/// How many values may be cut off at each end, so that what is left covers the true median in at least 95 % of
/// all cases: it does not if at most so many values lie on one side of it.
fn values_outside(count: usize) -> usize {
    let mut cut = 0;
    // The chance of exactly `cut` heads, and of at most so many.
    let mut exactly = 0.5_f64.powf(count as f64);
    let mut at_most = exactly;
    loop {
        exactly *= (count - cut) as f64 / (cut + 1) as f64;
        at_most += exactly;
        if at_most > 0.025 {
            return cut;
        }
        cut += 1;
    }
}
