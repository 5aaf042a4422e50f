//! The picture in docs/benchmarks.md: horizontal bars, two for each group, in panels below each other. An
//! SVG that is legible on a light and on a dark page, also where the reader's wish for either is not
//! known.

use std::fmt::{self, Display, Formatter};

use pg_test::numbers::grouped;

const WIDTH: f64 = 760.0;

/// Groups are named left of here.
const LEFT: f64 = 190.0;

/// Bars end here at the latest; their figures stand behind them.
const RIGHT: f64 = 680.0;

const BAR: f64 = 14.0;
const BETWEEN_BARS: f64 = 3.0;
const BETWEEN_GROUPS: f64 = 14.0;

/// Title, hint and legend of a panel.
const HEAD: f64 = 54.0;
const BETWEEN_PANELS: f64 = 22.0;

/// Everything that is drawn.
#[derive(Debug, Default)]
pub struct Plot {
    panels: Vec<Panel>,
}

/// Bars of one unit.
#[derive(Debug)]
pub struct Panel {
    pub title: String,
    /// How to read it.
    pub hint: String,
    /// Whose the two bars of each group are: ours, the other's.
    pub series: [&'static str; 2],
    pub groups: Vec<Group>,
}

/// Two bars to be compared.
#[derive(Debug)]
pub struct Group {
    name: String,
    values: [f64; 2],
}

impl Group {
    pub fn new(name: &str, values: [f64; 2]) -> Group {
        Group { name: name.to_owned(), values }
    }

    fn height() -> f64 {
        2.0 * BAR + BETWEEN_BARS + BETWEEN_GROUPS
    }
}

impl Panel {
    fn height(&self) -> f64 {
        HEAD + self.groups.len() as f64 * Group::height() + BETWEEN_PANELS
    }

    fn draw(&self, f: &mut Formatter<'_>, top: f64) -> fmt::Result {
        let Panel { title, hint, series, groups } = self;
        writeln!(f, r#"<text class="title" x="16" y="{}">{title}</text>"#, top + 22.0)?;
        writeln!(f, r#"<text class="hint" x="16" y="{}">{hint}</text>"#, top + 40.0)?;
        for (number, name) in series.iter().enumerate() {
            let y = top + 22.0 + 18.0 * number as f64;
            let class = CLASSES[number];
            let (x, above) = (RIGHT - 140.0, y - 9.0);
            writeln!(
                f,
                r#"<rect class="{class}" x="{x}" y="{above}" width="10" height="10" rx="2"/>"#
            )?;
            writeln!(f, r#"<text x="{}" y="{y}">{name}</text>"#, x + 16.0)?;
        }
        let longest = groups.iter().flat_map(|group| group.values).fold(0.0, f64::max);
        for (number, group) in groups.iter().enumerate() {
            let y = top + HEAD + number as f64 * Group::height();
            group.draw(f, y, (RIGHT - LEFT) / longest)?;
        }
        Ok(())
    }
}

const CLASSES: [&str; 2] = ["ours", "other"];

impl Group {
    fn draw(&self, f: &mut Formatter<'_>, top: f64, scale: f64) -> fmt::Result {
        let (x, y) = (LEFT - 10.0, top + BAR + 6.0);
        writeln!(f, r#"<text class="name" x="{x}" y="{y}">{}</text>"#, self.name)?;
        for (number, value) in self.values.into_iter().enumerate() {
            let (y, width) = (top + number as f64 * (BAR + BETWEEN_BARS), value * scale);
            let class = CLASSES[number];
            writeln!(
                f,
                r#"<rect class="{class}" x="{LEFT}" y="{y}" width="{width:.1}" height="{BAR}" rx="2"/>"#
            )?;
            let (x, y, figure) = (LEFT + width + 6.0, y + BAR - 3.0, figure(value));
            writeln!(f, r#"<text class="figure" x="{x:.1}" y="{y}">{figure}</text>"#)?;
        }
        Ok(())
    }
}

/// Small numbers with decimals.
fn figure(value: f64) -> String {
    if value < 100.0 { format!("{value:.2}") } else { grouped(value) }
}

impl Display for Plot {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let height: f64 = self.panels.iter().map(Panel::height).sum();
        writeln!(
            f,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">
<style>
text {{ font: 12px system-ui, sans-serif; fill: #6e7781 }}
.title {{ font-size: 15px; font-weight: 600 }}
.name {{ text-anchor: end }}
.figure {{ font-size: 11px }}
.ours {{ fill: #e8590c }}
.other {{ fill: #8c959f }}
@media (prefers-color-scheme: light) {{
  .title, .name {{ fill: #1f2328 }}
}}
@media (prefers-color-scheme: dark) {{
  .title, .name {{ fill: #f0f6fc }}
}}
</style>"#
        )?;
        let mut top = 0.0;
        for panel in &self.panels {
            panel.draw(f, top)?;
            top += panel.height();
        }
        writeln!(f, "</svg>")
    }
}

impl Plot {
    pub fn add(&mut self, panel: Panel) {
        self.panels.push(panel);
    }
}
