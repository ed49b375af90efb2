//! The pictures beside the report. Their colours can be read on white and on dark ground.

use crate::meter::QUANTILES;
use crate::plan::{BASELINE, Peer};
use crate::report::{Comparison, Report, median};
use crate::scenarios::{Load, Scenario};
use crate::stats::Median;
use std::io;
use std::ops::Range;
use std::path::Path;
use svg::Document;
use svg::node::element::{Circle, Line, Polyline, Text};

const WIDTH: f64 = 760.0;
const ROW: f64 = 16.0;
const TEXT: &str = "#7d8590";
const GRID: &str = "#7d859066";
const OURS: &str = "#e5534b";
/// For the others, in turn.
const COLORS: [&str; 10] =
    ["#4184e4", "#46954a", "#c69026", "#986ee2", "#cc6b2c", "#c96198", "#339999", "#8a8f3c", "#5b7fb0", "#a0745a"];

/// Writes them beside the report at `path`; returns the part of the report that shows them.
pub(crate) fn write(path: &Path, report: &Report<'_>) -> io::Result<String> {
    let pictures = [
        (costs(report), "bench-cpu.svg", "Server CPU of each server over raw_epoll's, with 95 % intervals"),
        (times(report), "bench-latency.svg", "Times at half load, at each percentile"),
    ];
    let mut shown = String::new();
    for (picture, name, title) in pictures {
        let Some(picture) = picture else { continue };
        svg::save(path.with_file_name(name), &picture)?;
        shown += &format!("![{title}]({name})\n\n");
    }
    Ok(if shown.is_empty() { shown } else { format!("## Pictures\n\n{shown}{CAPTION}\n") })
}

const CAPTION: &str = "\
The first one shows server CPU per request, per message or per byte as a multiple of raw_epoll's; left is better. The ratio of a \
server that was not in a pair with raw_epoll is that of two ratios to ours, and its interval what follows from both: it is wide. \
The second one shows medians of runs.";

/// A logarithmic axis.
struct Axis {
    values: Range<f64>,
    /// Where the first and the last one are.
    places: Range<f64>,
}

impl Axis {
    fn at(&self, value: f64) -> f64 {
        let share = (value / self.values.start).ln() / (self.values.end / self.values.start).ln();
        self.places.start + share.clamp(0.0, 1.0) * (self.places.end - self.places.start)
    }

    /// Each `factor` times the one before.
    fn ticks(&self, factor: f64) -> impl Iterator<Item = f64> {
        std::iter::successors(Some(self.values.start), move |tick| Some(tick * factor))
            .take_while(|tick| *tick <= self.values.end * 1.001)
    }

    /// From one power of `factor` to another, around all of the values.
    fn around(values: impl Iterator<Item = f64>, factor: f64, places: Range<f64>) -> Axis {
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        let power = |steps: f64| factor.powf(steps);
        Axis { values: power(low.log(factor).floor())..power(high.log(factor).ceil()), places }
    }
}

/// A panel for each scenario that has a cost, a row for each server.
fn costs(report: &Report<'_>) -> Option<Document> {
    let scenarios = report.arguments.scenarios.iter();
    let panels: Vec<(&Scenario, Vec<(&Peer, Median)>)> = scenarios
        .map(|&scenario| (scenario, over_baseline(report, scenario)))
        .filter(|(_, rows)| rows.len() > 1)
        .collect();
    let ratios = || panels.iter().flat_map(|(_, rows)| rows.iter().map(|(_, ratio)| ratio));
    let (label, gap, columns) = (90.0, 20.0, 2);
    let width = WIDTH / f64::from(columns);
    let of_all = |left: f64| {
        let values = ratios().flat_map(|ratio| [ratio.low, 1.0, ratio.high]);
        Axis::around(values, 2.0, left + label..left + width - gap)
    };
    let mut document = Document::new();
    let mut top = 0.0;
    for pair in panels.chunks(2) {
        let rows_max = pair.iter().map(|(_, rows)| rows.len()).max().unwrap_or(0);
        let height = ROW * rows_max as f64;
        for ((scenario, rows), left) in pair.iter().zip([0.0, width]) {
            let axis = of_all(left);
            document = document.add(text(left + label, top + 14.0, "start", scenario.name).set("font-weight", "bold"));
            for tick in axis.ticks(2.0) {
                let (x, y) = (axis.at(tick), top + 22.0);
                let line = line(x, y, x, y + ROW * rows.len() as f64, if tick == 1.0 { TEXT } else { GRID });
                document = document.add(line).add(text(x, y + ROW * rows.len() as f64 + 12.0, "middle", &number(tick)));
            }
            for (row, (server, ratio)) in rows.iter().enumerate() {
                let y = top + 22.0 + ROW * (row as f64 + 0.5);
                let color = if server.name == report.arguments.subject.name { OURS } else { COLORS[0] };
                let whisker = line(axis.at(ratio.low), y, axis.at(ratio.high), y, color).set("stroke-width", 2);
                let dot = Circle::new().set("cx", place(axis.at(ratio.median))).set("cy", place(y)).set("r", 4);
                document = document
                    .add(text(left + label - 8.0, y + 4.0, "end", server.name))
                    .add(whisker)
                    .add(dot.set("fill", color));
            }
        }
        top += 22.0 + height + 32.0;
    }
    (!panels.is_empty()).then(|| sized(document, top))
}

/// What each server's CPU costs as a multiple of the baseline's.
fn over_baseline<'a>(report: &'a Report<'_>, scenario: &'a Scenario) -> Vec<(&'a Peer, Median)> {
    let Some(cost) = scenario.cost() else { return Vec::new() };
    // In a run that was held up the server may have used no CPU at all.
    let can_be_drawn = |ratio: &Median| ratio.low > 0.0 && ratio.high.is_finite();
    let ratio = |comparison: &Comparison| comparison.ratio(cost).filter(can_be_drawn);
    let baseline = report.of(scenario).find(|comparison| comparison.peer.name == BASELINE);
    let Some(ours) = baseline.and_then(ratio) else { return Vec::new() };
    let others = report.of(scenario).filter(|comparison| comparison.peer.name != BASELINE);
    let others = others.filter_map(|comparison| Some((comparison.peer, ours.over(ratio(comparison)?))));
    std::iter::once((report.arguments.subject, ours)).chain(others).collect()
}

/// The times of the paced load: a line for each server.
fn times(report: &Report<'_>) -> Option<Document> {
    let paced = |scenario: &&&'static Scenario| matches!(scenario.load, Load::Paced { .. });
    let scenario = *report.arguments.scenarios.iter().find(paced)?;
    let curve = |samples: &dyn Fn(usize) -> Vec<f64>| -> Vec<f64> {
        (0..QUANTILES.len()).map(|at| median(samples(at).into_iter())).collect()
    };
    let ours = curve(&|at| report.of(scenario).flat_map(Comparison::ours).map(|sample| sample.times[at]).collect());
    let theirs = report.of(scenario).map(|comparison| {
        (comparison.peer.name, curve(&|at| comparison.theirs().map(|sample| sample.times[at]).collect()))
    });
    let mut curves: Vec<(&str, Vec<f64>)> =
        std::iter::once((report.arguments.subject.name, ours)).chain(theirs).collect();
    curves.retain(|(_, curve)| curve.iter().all(|time| *time > 0.0));
    if curves.is_empty() {
        return None;
    }

    // As far from the median as the rest is less than half: a tenth, a hundredth and so on are equally far apart.
    let less = |quantile: f64| (2.0 * (1.0 - quantile)).log10();
    let across = |quantile: f64| 60.0 + 470.0 * less(quantile) / less(QUANTILES[QUANTILES.len() - 1]);
    let (top, bottom) = (34.0, 340.0);
    let values = curves.iter().flat_map(|(_, curve)| curve.iter().copied());
    let up = Axis::around(values, 10.0, bottom..top);
    let mut document =
        Document::new().add(text(60.0, 14.0, "start", &format!("{}: µs", scenario.title)).set("font-weight", "bold"));
    for tick in up.ticks(10.0) {
        let y = up.at(tick);
        document = document.add(line(60.0, y, 530.0, y, GRID)).add(text(52.0, y + 4.0, "end", &number(tick)));
    }
    for quantile in [0.5, 0.9, 0.99, 0.999] {
        let x = across(quantile);
        let label = format!("p{}", number(quantile * 100.0));
        document = document.add(line(x, top, x, bottom, GRID)).add(text(x, bottom + 16.0, "middle", &label));
    }
    for (row, (name, curve)) in curves.iter().enumerate() {
        let is_ours = *name == report.arguments.subject.name;
        let (color, stroke) = if is_ours { (OURS, 3) } else { (COLORS[row % COLORS.len()], 2) };
        let points = QUANTILES
            .iter()
            .zip(curve)
            .map(|(&quantile, &value)| format!("{},{}", place(across(quantile)), place(up.at(value))));
        let path = Polyline::new().set("points", points.collect::<Vec<_>>().join(" ")).set("fill", "none");
        let y = top + 20.0 * row as f64;
        document = document
            .add(path.set("stroke", color).set("stroke-width", stroke))
            .add(line(560.0, y, 590.0, y, color).set("stroke-width", stroke))
            .add(text(600.0, y + 4.0, "start", name));
    }
    Some(sized(document, (bottom + 30.0).max(top + 20.0 * curves.len() as f64)))
}

fn sized(document: Document, height: f64) -> Document {
    document.set("viewBox", (0, 0, WIDTH, height)).set("font-family", "sans-serif").set("font-size", 12)
}

fn text(x: f64, y: f64, anchor: &str, words: &str) -> Text {
    Text::new(words).set("x", place(x)).set("y", place(y)).set("text-anchor", anchor).set("fill", TEXT)
}

fn line(x1: f64, y1: f64, x2: f64, y2: f64, color: &str) -> Line {
    let ends = Line::new().set("x1", place(x1)).set("y1", place(y1)).set("x2", place(x2)).set("y2", place(y2));
    ends.set("stroke", color)
}

fn place(value: f64) -> String {
    format!("{value:.1}")
}

/// Without zeros that say nothing.
fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
