//! The plot: a bar per ratio to nginx, a panel of curves per latency distribution. Pure.

use super::distribution::Distribution;
use super::figure::{Figure, Target};
use super::svg::{Anchor, Point, Svg};

const WIDTH: f64 = 860.0;
const MARGIN: f64 = 20.0;
/// Room for the names of bars and of the vertical axis.
const LEFT: f64 = 330.0;
const BAR: f64 = 16.0;
const ROW: f64 = 28.0;
const TITLE: f64 = 30.0;
const PANEL: f64 = 260.0;

const INK: &str = "#444444";
const GRID: &str = "#dddddd";
const OURS: &str = "#2a6fbb";
const NGINX: &str = "#888888";
const TARGET: &str = "#c0392b";
const DIRECT: &str = "#3a9d5d";

/// Draws the figures with a ratio and all distributions.
pub(super) fn render(figures: &[Figure], distributions: &[Distribution]) -> String {
    let bars: Vec<Bar<'_>> = figures.iter().filter_map(Bar::of).collect();
    let groups: Vec<&[Distribution]> = distributions
        .chunk_by(|one, other| one.group == other.group)
        .collect();
    let bars_height = TITLE + ROW * bars.len() as f64 + MARGIN;
    let mut svg = Svg::new(
        WIDTH,
        bars_height + groups.len() as f64 * (PANEL + TITLE) + 2.0 * MARGIN,
    );
    draw_bars(&mut svg, MARGIN, &bars);
    for (number, group) in groups.into_iter().enumerate() {
        let top = MARGIN + bars_height + number as f64 * (PANEL + TITLE);
        Panel::of(group, top).draw(&mut svg, group);
    }
    svg.finish()
}

struct Bar<'a> {
    name: &'a str,
    ratio: f64,
    most: Option<f64>,
}

impl<'a> Bar<'a> {
    fn of(figure: &'a Figure) -> Option<Self> {
        let Target::Ratio(most) = figure.target else {
            return None;
        };
        let ratio = figure.ratios()?.median();
        ratio.is_finite().then_some(Self {
            name: &figure.name,
            ratio,
            most,
        })
    }

    fn end(&self) -> f64 {
        self.ratio.max(self.most.unwrap_or(1.0))
    }
}

fn draw_bars(svg: &mut Svg, top: f64, bars: &[Bar<'_>]) {
    let longest = bars.iter().map(Bar::end).fold(1.0, f64::max);
    let right = WIDTH - MARGIN - 50.0;
    let x = |ratio: f64| LEFT + (right - LEFT) * ratio / longest;
    let bottom = top + TITLE + ROW * bars.len() as f64;
    svg.text(
        (MARGIN, top + 12.0),
        Anchor::Start,
        "ours / nginx (line: nginx, red: target)",
    );
    for (number, bar) in bars.iter().enumerate() {
        let y = top + TITLE + ROW * number as f64;
        svg.text((LEFT - 8.0, y + 13.0), Anchor::End, bar.name);
        svg.rect((LEFT, y), (x(bar.ratio) - LEFT, BAR), OURS);
        svg.text(
            (x(bar.ratio) + 4.0, y + 13.0),
            Anchor::Start,
            &format!("{:.2}", bar.ratio),
        );
        if let Some(most) = bar.most {
            svg.polyline(&[(x(most), y - 4.0), (x(most), y + BAR + 4.0)], TARGET, 2.0);
        }
    }
    svg.line((x(1.0), top + TITLE - 6.0), (x(1.0), bottom), NGINX);
}

/// One group of distributions: percentiles to the right by their nines, ages upwards by powers of ten.
struct Panel {
    top: f64,
    lowest: f64,
    highest: f64,
}

/// Ticks of the horizontal axis.
const TICKS: [f64; 5] = [0.0, 90.0, 99.0, 99.9, 99.99];

impl Panel {
    fn of(group: &[Distribution], top: f64) -> Self {
        let decades = || {
            group
                .iter()
                .flat_map(|one| &one.points)
                .map(|(_, age)| decade(*age))
        };
        let lowest = decades().fold(f64::INFINITY, f64::min).floor();
        let highest = decades()
            .fold(f64::NEG_INFINITY, f64::max)
            .ceil()
            .max(lowest + 1.0);
        Self {
            top: top + TITLE,
            lowest,
            highest,
        }
    }

    fn draw(&self, svg: &mut Svg, group: &[Distribution]) {
        let name = group.first().map_or("", |one| one.group.as_str());
        let title = format!("{name}: age of a token at its receipt, µs, by percentile");
        svg.text((MARGIN, self.top - 14.0), Anchor::Start, &title);
        self.draw_grid(svg);
        for (number, one) in group.iter().enumerate() {
            let colour = colour(&one.name);
            let points: Vec<Point> = one
                .points
                .iter()
                .map(|(percent, age)| self.place(*percent, *age))
                .collect();
            svg.polyline(&points, colour, 2.0);
            let y = self.top + 14.0 + 18.0 * number as f64;
            svg.rect((MARGIN, y - 9.0), (10.0, 10.0), colour);
            svg.text((MARGIN + 16.0, y), Anchor::Start, &one.name);
        }
    }

    fn draw_grid(&self, svg: &mut Svg) {
        let mut power = self.lowest;
        while power <= self.highest {
            let age = 10_f64.powf(power);
            svg.line(self.place(TICKS[0], age), self.place(TICKS[4], age), GRID);
            let (x, y) = self.place(TICKS[0], age);
            svg.text((x - 8.0, y + 4.0), Anchor::End, &format!("{age}"));
            power += 1.0;
        }
        let floor = 10_f64.powf(self.lowest);
        for percent in TICKS {
            let (x, y) = self.place(percent, floor);
            svg.line((x, y), (x, y + 4.0), INK);
            svg.text((x, y + 16.0), Anchor::Middle, &format!("{percent}"));
        }
    }

    fn place(&self, percent: f64, age: f64) -> Point {
        let right = nines(percent) / nines(TICKS[4]);
        let up = (decade(age) - self.lowest) / (self.highest - self.lowest);
        (
            LEFT + (WIDTH - MARGIN - 30.0 - LEFT) * right,
            self.top + (PANEL - TITLE) * (1.0 - up),
        )
    }
}

fn nines(percent: f64) -> f64 {
    -(1.0 - percent / 100.0).log10()
}

/// The power of ten; ages below a microsecond are drawn as one.
fn decade(age_us: f64) -> f64 {
    age_us.max(1.0).log10()
}

fn colour(name: &str) -> &'static str {
    match name {
        "direct" => DIRECT,
        "nginx" => NGINX,
        _ => OURS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Samples;

    #[test]
    fn every_ratio_and_distribution_is_drawn() {
        let one = |value| Samples::new([value]);
        let figures = [
            Figure::ratio("cpu".to_owned(), "µs", one(12.0), one(10.0), Some(1.5)),
            Figure::value("decide".to_owned(), "µs", one(3.0), None, Some(20.0)),
        ];
        let names = ["direct", "nginx", "orchestratord"];
        let curves =
            names.map(|name| Distribution::new("64 streams".to_owned(), name, |percent| 50.0 + percent));
        let svg = render(&figures, &curves);
        assert!(
            svg.contains(">cpu</text>") && svg.contains(">1.20</text>"),
            "{svg}"
        );
        assert!(
            !svg.contains("decide") && !svg.contains("NaN") && !svg.contains("inf"),
            "{svg}"
        );
        assert!(
            names.iter().all(|name| svg.contains(&format!(">{name}</text>"))),
            "{svg}"
        );
    }

    #[test]
    fn more_nines_are_further_right_and_larger_ages_higher() {
        let panel = Panel {
            top: 0.0,
            lowest: 1.0,
            highest: 3.0,
        };
        let ((x, y), (further, higher)) = (panel.place(90.0, 10.0), panel.place(99.0, 1000.0));
        assert!(further > x && higher < y);
        assert_eq!(higher, 0.0);
    }
}
