//! A picture in SVG, from lines, boxes and words. Pure.

use std::fmt::Write as _;

/// A picture being drawn; the origin is the upper left corner, lengths are pixels.
#[derive(Debug)]
pub(crate) struct Svg {
    body: String,
    width: f64,
    height: f64,
}

/// Where a word is relative to its point.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Anchor {
    /// It begins there.
    Start,
    /// It is centred there.
    Middle,
    /// It ends there.
    End,
}

/// A point.
pub(crate) type Point = (f64, f64);

impl Svg {
    pub(crate) fn new(width: f64, height: f64) -> Self {
        Self {
            body: String::new(),
            width,
            height,
        }
    }

    /// A filled box.
    pub(crate) fn rect(&mut self, (x, y): Point, (width, height): (f64, f64), colour: &str) {
        self.put(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{colour}"/>"#
        ));
    }

    /// A line.
    pub(crate) fn line(&mut self, from: Point, to: Point, colour: &str) {
        self.polyline(&[from, to], colour, 1.0);
    }

    /// Connected lines.
    pub(crate) fn polyline(&mut self, points: &[Point], colour: &str, width: f64) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.put(format_args!(
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="{width}"/>"#,
            points.join(" ")
        ));
    }

    /// Words.
    pub(crate) fn text(&mut self, (x, y): Point, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(text);
        self.put(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#
        ));
    }

    /// The picture's file.
    pub(crate) fn finish(self) -> String {
        let Self { body, width, height } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
        )
    }

    /// A `String` grows instead of failing.
    fn put(&mut self, element: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.body, "{element}");
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_have_their_numbers_and_words_are_escaped() {
        let mut svg = Svg::new(100.0, 50.0);
        svg.rect((1.0, 2.0), (3.0, 4.0), "red");
        svg.polyline(&[(0.0, 0.0), (1.5, 2.5)], "blue", 2.0);
        svg.text((5.0, 6.0), Anchor::End, "a < b & c");
        let text = svg.finish();
        for part in [
            "viewBox=\"0 0 100 50\"",
            r#"<rect x="1.0" y="2.0" width="3.0" height="4.0" fill="red"/>"#,
            r#"points="0.0,0.0 1.5,2.5""#,
            r#"text-anchor="end">a &lt; b &amp; c</text>"#,
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(text.ends_with("</svg>\n"));
    }
}
