//! Line plots as SVG, drawn for the page they are in: colours and letters are the page's (classes `s0`, `s1`, ...).

use std::fmt::Write as _;

/// One line of a plot.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
    /// Colour; lines of one thing in several plots share it.
    pub(crate) colour: usize,
    pub(crate) dashed: bool,
    /// Marks at its points: for lines of few.
    pub(crate) dots: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// From 0.
    Linear,
    Log,
    /// Of percents below 100, spread towards 100: 90, 99 and 99.9 are as far from each other.
    Nines,
}

#[derive(Debug, Clone)]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) lines: Vec<Line>,
    /// A level to be seen, with its name.
    pub(crate) level: Option<(f64, String)>,
    /// Points that are crossed out.
    pub(crate) crossed: Vec<(f64, f64)>,
    /// What the drawing does not say by itself.
    pub(crate) notes: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Axis {
    pub(crate) name: String,
    pub(crate) scale: Scale,
    pub(crate) number: fn(f64) -> String,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 88.0;
const RIGHT: f64 = 28.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;
/// Percents above it are drawn at it.
const NINES_MAX: f64 = 99.999;

/// From values to places on the drawing.
struct Ruler {
    scale: Scale,
    from: f64,
    to: f64,
    /// Places of `from` and `to`.
    at: (f64, f64),
    ticks: Vec<f64>,
}

impl Plot {
    /// Empty when no line has two points.
    pub(crate) fn draw(&self) -> String {
        let drawn: Vec<&Line> = self.lines.iter().filter(|line| line.points.len() > 1).collect();
        if drawn.is_empty() {
            return String::new();
        }
        let all = || drawn.iter().flat_map(|line| line.points.iter().copied());
        let level = self.level.as_ref().map(|(level, _)| *level);
        let x = Ruler::over(self.x.scale, all().map(|(x, _)| x), (LEFT, WIDTH - RIGHT));
        let y = Ruler::over(self.y.scale, all().map(|(_, y)| y).chain(level), (HEIGHT - BOTTOM, TOP));
        let mut svg = String::new();
        let title = escape(&self.title);
        let _ = write!(
            svg,
            "<figure><figcaption>{title}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">"
        );
        self.grid(&x, &y, &mut svg);
        if let Some((level, name)) = &self.level {
            let at = y.place(*level);
            let _ = write!(
                svg,
                "<line class=\"level\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text class=\"level\" x=\"{}\" y=\"{:.1}\">{}</text>",
                WIDTH - RIGHT,
                LEFT + 4.0,
                at - 4.0,
                escape(name)
            );
        }
        drawn.iter().for_each(|line| curve(line, &x, &y, &mut svg));
        for (px, py) in &self.crossed {
            cross((x.place(*px), y.place(*py)), &mut svg);
        }
        svg.push_str("</svg>");
        legend(&drawn, &mut svg);
        self.notes.iter().for_each(|note| _ = write!(svg, "<p>{}</p>", escape(note)));
        svg.push_str("</figure>");
        svg
    }

    fn grid(&self, x: &Ruler, y: &Ruler, svg: &mut String) {
        for tick in &x.ticks {
            let (at, text) = (x.place(*tick), (self.x.number)(*tick));
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{}\"/><text class=\"x\" x=\"{at:.1}\" y=\"{}\">{}</text>",
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 16.0,
                escape(&text)
            );
        }
        for tick in &y.ticks {
            let (at, text) = (y.place(*tick), (self.y.number)(*tick));
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text class=\"y\" x=\"{}\" y=\"{:.1}\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0,
                escape(&text)
            );
        }
        let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
        let _ = write!(
            svg,
            "<text class=\"x\" x=\"{middle}\" y=\"{}\">{}</text>",
            HEIGHT - 6.0,
            escape(&self.x.name)
        );
        let _ = write!(
            svg,
            "<text class=\"x\" transform=\"translate(14 {}) rotate(-90)\">{}</text>",
            f64::midpoint(TOP, HEIGHT - BOTTOM),
            escape(&self.y.name)
        );
    }
}

fn curve(line: &Line, x: &Ruler, y: &Ruler, svg: &mut String) {
    let places: Vec<(f64, f64)> = line.points.iter().map(|(px, py)| (x.place(*px), y.place(*py))).collect();
    let points: Vec<String> = places.iter().map(|(px, py)| format!("{px:.1},{py:.1}")).collect();
    let (colour, dashed) = (line.colour % COLOURS, if line.dashed { " dashed" } else { "" });
    let _ = write!(svg, "<polyline class=\"s{colour}{dashed}\" points=\"{}\"/>", points.join(" "));
    if line.dots {
        for (px, py) in places {
            let _ = write!(svg, "<circle class=\"s{colour}\" cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"3\"/>");
        }
    }
}

fn cross((x, y): (f64, f64), svg: &mut String) {
    const ARM: f64 = 5.0;
    let (left, right, top, bottom) = (x - ARM, x + ARM, y - ARM, y + ARM);
    let _ = write!(
        svg,
        "<path class=\"cross\" d=\"M{left:.1} {top:.1}L{right:.1} {bottom:.1}M{left:.1} {bottom:.1}L{right:.1} {top:.1}\"/>"
    );
}

/// As many as the page has classes for.
pub(crate) const COLOURS: usize = 8;

fn legend(lines: &[&Line], svg: &mut String) {
    svg.push_str("<ul class=\"legend\">");
    for line in lines {
        let dashed = if line.dashed { " dashed" } else { "" };
        let _ = write!(
            svg,
            "<li><i class=\"s{}{dashed}\"></i>{}</li>",
            line.colour % COLOURS,
            escape(&line.name)
        );
    }
    svg.push_str("</ul>");
}

pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

impl Ruler {
    fn over(scale: Scale, values: impl Iterator<Item = f64>, at: (f64, f64)) -> Ruler {
        let values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (from, to, ticks) = match scale {
            Scale::Linear => linear(most),
            Scale::Log => decades(least.max(1.0), most.max(1.0)),
            Scale::Nines => (0.0, NINES_MAX, vec![0.0, 50.0, 90.0, 99.0, 99.9, 99.99, NINES_MAX]),
        };
        Ruler { scale, from, to, at, ticks }
    }

    fn place(&self, value: f64) -> f64 {
        let on = |value: f64| match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(1.0).ln(),
            Scale::Nines => -(1.0 - value.min(NINES_MAX) / 100.0).log10(),
        };
        let (from, to) = (on(self.from), on(self.to));
        let share = (on(value) - from) / (to - from);
        self.at.0 + share * (self.at.1 - self.at.0)
    }
}

/// From 0 to a round number not below `most`, in four to eight steps.
fn linear(most: f64) -> (f64, f64, Vec<f64>) {
    let most = if most > 0.0 { most } else { 1.0 };
    let rough = most / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|times| times * power).find(|step| *step >= rough);
    let step = step.unwrap_or(power * 10.0);
    let count = (most / step).ceil() as usize;
    (0.0, step * count as f64, (0..=count).map(|tick| step * tick as f64).collect())
}

/// Whole decades; with marks at 2 and 5 where there are few.
fn decades(least: f64, most: f64) -> (f64, f64, Vec<f64>) {
    let (first, last) = (least.log10().floor() as i32, most.log10().ceil() as i32);
    let last = last.max(first + 1);
    let within: &[f64] = if last - first <= 3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let (from, to) = (10_f64.powi(first), 10_f64.powi(last));
    let marks = (first..=last).flat_map(|power| within.iter().map(move |times| times * 10_f64.powi(power)));
    (from, to, marks.filter(|mark| *mark <= to).collect())
}

#[cfg(test)]
mod tests {
    use super::{Axis, Line, Plot, Ruler, Scale, decades, escape, linear};

    fn plot(points: Vec<(f64, f64)>) -> String {
        let axis = |scale| Axis { name: "a & b".to_owned(), scale, number: |value| format!("{value}") };
        let line = Line { name: "<line>".to_owned(), points, colour: 9, dashed: true, dots: true };
        Plot {
            title: "T".to_owned(),
            x: axis(Scale::Linear),
            y: axis(Scale::Log),
            lines: vec![line],
            level: None,
            crossed: vec![(0.0, 10.0)],
            notes: vec!["a <note>".to_owned()],
        }
        .draw()
    }

    #[test]
    fn ticks_are_round_and_hold_the_values() {
        assert_eq!(linear(93.0), (0.0, 100.0, vec![0.0, 20.0, 40.0, 60.0, 80.0, 100.0]));
        assert_eq!(linear(0.0).1, 1.0);
        assert_eq!(decades(300.0, 40_000.0).2, [100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5]);
        assert_eq!(decades(7.0, 7.0), (1.0, 10.0, vec![1.0, 2.0, 5.0, 10.0]));
    }

    #[test]
    fn values_are_placed_in_order_and_within() {
        for scale in [Scale::Linear, Scale::Log, Scale::Nines] {
            let values = [1.0, 50.0, 90.0, 99.0, 99.9];
            let ruler = Ruler::over(scale, values.into_iter(), (100.0, 200.0));
            let places: Vec<f64> = values.iter().map(|value| ruler.place(*value)).collect();
            assert!(places.is_sorted() && places[0] >= 100.0 && places[4] <= 200.0, "{scale:?}: {places:?}");
        }
        let nines = Ruler::over(Scale::Nines, [0.0].into_iter(), (0.0, 100.0));
        assert!((nines.place(99.0) - 40.0).abs() < 1e-9 && (nines.place(100.0) - 100.0).abs() < 1e-9);
    }

    #[test]
    fn a_drawing_is_escaped_and_empty_without_lines() {
        let svg = plot(vec![(0.0, 10.0), (1.0, 1000.0)]);
        assert!(svg.contains("&lt;line&gt;") && svg.contains("a &amp; b") && !svg.contains("<line>"));
        assert_eq!(svg.matches("<circle class=\"s1\"").count(), 2);
        assert_eq!(svg.matches("class=\"cross\"").count(), 1);
        assert!(svg.contains("<p>a &lt;note&gt;</p>"));
        assert_eq!(plot(vec![(0.0, 10.0)]), "");
        assert_eq!(escape("'\"<"), "&#39;&quot;&lt;");
    }
}
