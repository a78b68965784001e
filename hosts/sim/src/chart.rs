//! A line chart as SVG: small, and legible on light and on dark.

use std::fmt::Write;

/// One line of a chart.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// A chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// The title.
    pub title: String,
    /// The label of the horizontal axis.
    pub x: String,
    /// The label of the vertical axis.
    pub y: String,
    /// Whether the axes are logarithmic: x, y.
    pub log: (bool, bool),
    /// At most six lines.
    pub lines: Vec<Line>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 48.0;
const COLOURS: [&str; 6] = [
    "#2a78d6", "#d6552a", "#3a9d5d", "#8a5fc4", "#b58a00", "#777777",
];

impl Chart {
    /// The SVG file.
    pub fn svg(&self) -> String {
        let mut out = String::new();
        let points = || self.lines.iter().flat_map(|l| l.points.iter().copied());
        let x = Scale::of(points().map(|p| p.0), self.log.0, LEFT, WIDTH - RIGHT);
        let y = Scale::of(points().map(|p| p.1), self.log.1, HEIGHT - BOTTOM, TOP);
        let _ = writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\" fill=\"#888\">"
        );
        let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
        let _ = writeln!(
            out,
            "<text x=\"{middle}\" y=\"20\" text-anchor=\"middle\" font-size=\"14\">{}</text>",
            self.title
        );
        self.axes(&mut out, &x, &y, middle);
        for (line, colour) in self.lines.iter().zip(COLOURS) {
            let path: Vec<String> = line
                .points
                .iter()
                .map(|p| format!("{:.1},{:.1}", x.place(p.0), y.place(p.1)))
                .collect();
            let _ = writeln!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                path.join(" ")
            );
            if let Some(last) = line.points.last() {
                let _ = writeln!(
                    out,
                    "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>",
                    x.place(last.0) + 6.0,
                    y.place(last.1) + 4.0,
                    line.name
                );
            }
        }
        out.push_str("</svg>\n");
        out
    }

    fn axes(&self, out: &mut String, x: &Scale, y: &Scale, middle: f64) {
        let (floor, end) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for tick in x.ticks() {
            let at = x.place(tick);
            let _ = writeln!(
                out,
                "<path d=\"M{at:.1} {TOP}V{floor}\" stroke=\"#8884\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                floor + 16.0,
                shown(tick)
            );
        }
        for tick in y.ticks() {
            let at = y.place(tick);
            let _ = writeln!(
                out,
                "<path d=\"M{LEFT} {at:.1}H{end}\" stroke=\"#8884\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                shown(tick)
            );
        }
        let _ = writeln!(
            out,
            "<text x=\"{middle}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text x=\"14\" y=\"{:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 14 {:.1})\">{}</text>",
            HEIGHT - 10.0,
            self.x,
            HEIGHT / 2.0,
            HEIGHT / 2.0,
            self.y
        );
    }
}

/// Maps values to positions in the picture.
struct Scale {
    least: f64,
    most: f64,
    log: bool,
    from: f64,
    to: f64,
}

impl Scale {
    fn of(values: impl Iterator<Item = f64>, log: bool, from: f64, to: f64) -> Scale {
        let (mut least, mut most) = (f64::MAX, f64::MIN);
        for value in values {
            (least, most) = (least.min(value), most.max(value));
        }
        if log {
            least = 10f64.powf(least.max(1e-9).log10().floor());
            most = 10f64.powf(most.max(1e-9).log10().ceil());
        } else {
            least = 0.0;
        }
        if most <= least {
            most = least + 1.0;
        }
        Scale {
            least,
            most,
            log,
            from,
            to,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let part = if self.log {
            (value / self.least).log10() / (self.most / self.least).log10()
        } else {
            (value - self.least) / (self.most - self.least)
        };
        self.from + part * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<f64> {
        if self.log {
            let decades = (self.most / self.least).log10().round() as i32;
            return (0..=decades).map(|n| self.least * 10f64.powi(n)).collect();
        }
        let rough = (self.most - self.least) / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|n| n * power);
        let step = steps
            .into_iter()
            .find(|step| *step >= rough)
            .unwrap_or(power);
        let count = ((self.most - self.least) / step).floor() as i32;
        (0..=count)
            .map(|n| self.least + step * f64::from(n))
            .collect()
    }
}

fn shown(value: f64) -> String {
    if value >= 1.0 || value == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_lie_within() {
        let line = |name: &str, points: &[(f64, f64)]| Line {
            name: name.to_owned(),
            points: points.to_vec(),
        };
        let chart = Chart {
            title: "a".to_owned(),
            x: "b".to_owned(),
            y: "c".to_owned(),
            log: (true, false),
            lines: vec![line("d", &[(1.0, 0.0), (1000.0, 7.0)])],
        };
        let svg = chart.svg();
        assert!(svg.contains("64.0,312.0 490.0,36.0"), "{svg}");
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }
}
