//! Results as pictures: for each measure a panel of bars, one for each case and candidate, with their spread.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};

use crate::gateway::Candidate;
use crate::measure::Measure;
use crate::results::Results;
use crate::stats::Summary;
use crate::table::number;

/// Where Debian's fonts-dejavu-core, and most others, have a font.
const FONTS: [&str; 3] = [
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/dejavu-sans-fonts/DejaVuSans.ttf",
    "/usr/share/fonts/TTF/DejaVuSans.ttf",
];

/// Which measures are drawn, and the cases' beginnings that are of interest.
const PICTURES: [Measure; 12] = [
    Measure::Rate,
    Measure::Cost,
    Measure::Open,
    Measure::OpenCost,
    Measure::Latency,
    Measure::WireTcp,
    Measure::WireCost,
    Measure::BulkTcp,
    Measure::BulkCost,
    Measure::Requests,
    Measure::RequestCost,
    Measure::Foreign,
];

/// In pixels.
const WIDTH: u32 = 960;
const ROW: i32 = 15;
const TOP: i32 = 64;
const HEADING: i32 = 26;
const LEFT: i32 = 150;
const RIGHT: i32 = 220;

/// Draws every measure that there is, as PNG and SVG, and returns the files.
///
/// # Errors
/// If there is no font, or a file cannot be written.
pub fn draw(results: &Results, directory: &Path) -> Result<Vec<PathBuf>> {
    let font = FONTS.iter().find_map(|path| std::fs::read(path).ok());
    let font = font.context("no font: install the package fonts-dejavu-core")?;
    // The library wants it for the whole life of the process, which is over soon.
    register_font("sans", FontStyle::Normal, font.leak())
        .map_err(|_| anyhow!("the font cannot be read"))?;
    let mut files = Vec::new();
    for measure in PICTURES {
        let rows = rows(results, measure);
        if rows.is_empty() {
            continue;
        }
        let size = (WIDTH, height(&rows));
        let [png, svg] =
            ["png", "svg"].map(|it| directory.join(format!("{}.{it}", measure.word())));
        picture(
            BitMapBackend::new(&png, size).into_drawing_area(),
            results,
            measure,
            &rows,
        )
        .with_context(|| format!("drawing {}", png.display()))?;
        picture(
            SVGBackend::new(&svg, size).into_drawing_area(),
            results,
            measure,
            &rows,
        )
        .with_context(|| format!("drawing {}", svg.display()))?;
        files.extend([png, svg]);
    }
    Ok(files)
}

/// A line of a picture.
enum Row {
    Heading(String),
    Bar(Candidate, Summary, Option<Summary>),
}

fn rows(results: &Results, measure: Measure) -> Vec<Row> {
    let mut rows = Vec::new();
    for case in results.cases(measure) {
        let bars: Vec<_> = Candidate::ALL
            .into_iter()
            .filter_map(|candidate| {
                let cell = results.cell(measure, case, candidate)?;
                Some(Row::Bar(candidate, cell.summary()?, results.ratio(cell)))
            })
            .collect();
        if !bars.is_empty() {
            rows.push(Row::Heading(case.to_owned()));
            rows.extend(bars);
        }
    }
    rows
}

fn height(rows: &[Row]) -> u32 {
    let of = |row: &Row| match row {
        Row::Heading(_) => HEADING,
        Row::Bar(..) => ROW,
    };
    (TOP + rows.iter().map(of).sum::<i32>() + 12).unsigned_abs()
}

fn colour(candidate: Candidate) -> RGBColor {
    match candidate {
        Candidate::Kernel => RGBColor(120, 120, 120),
        Candidate::IptablesLegacy => RGBColor(196, 78, 82),
        Candidate::IptablesNft => RGBColor(221, 132, 82),
        Candidate::NftMap => RGBColor(218, 180, 80),
        Candidate::NftFlowtable => RGBColor(140, 97, 60),
        Candidate::Ipvs => RGBColor(129, 114, 179),
        Candidate::Tc => RGBColor(100, 181, 205),
        Candidate::Xdp => RGBColor(76, 114, 176),
        Candidate::Auto => RGBColor(88, 148, 190),
        Candidate::Ceiling => RGBColor(170, 190, 170),
    }
}

type Area<B> = DrawingArea<B, plotters::coord::Shift>;

fn picture<B: DrawingBackend>(
    area: Area<B>,
    results: &Results,
    measure: Measure,
    rows: &[Row],
) -> Result<()>
where
    B::ErrorType: 'static,
{
    area.fill(&WHITE)?;
    let machine = &results.machine;
    write(&area, &measure.heading(), (12, 10), 20.0, HPos::Left)?;
    let below = format!(
        "Linux {}, {}, {} CPUs; {} rounds; bar: median, line: smallest to largest; ×: quotient with {}",
        machine.kernel,
        machine.processor,
        machine.cpus,
        results.rounds,
        Candidate::BASELINE
    );
    write(&area, &below, (12, 36), 12.0, HPos::Left)?;
    let largest = rows.iter().filter_map(|row| match row {
        Row::Bar(_, summary, _) => Some(summary.max),
        Row::Heading(_) => None,
    });
    let largest = largest.fold(f64::MIN_POSITIVE, f64::max);
    let room = f64::from(WIDTH as i32 - LEFT - RIGHT);
    let scale = |value: f64| LEFT + (value / largest * room) as i32;
    let mut y = TOP;
    for row in rows {
        match row {
            Row::Heading(text) => {
                write(&area, text, (12, y + 8), 14.0, HPos::Left)?;
                y += HEADING;
            }
            Row::Bar(candidate, summary, ratio) => {
                bar(&area, y, *candidate, (summary, ratio.as_ref()), &scale)?;
                y += ROW;
            }
        }
    }
    area.present()?;
    Ok(())
}

fn bar<B: DrawingBackend>(
    area: &Area<B>,
    y: i32,
    candidate: Candidate,
    (summary, ratio): (&Summary, Option<&Summary>),
    scale: &impl Fn(f64) -> i32,
) -> Result<()>
where
    B::ErrorType: 'static,
{
    write(area, candidate.name(), (LEFT - 8, y), 12.0, HPos::Right)?;
    let filled = colour(candidate).filled();
    let corners = [(LEFT, y + 1), (scale(summary.median), y + ROW - 3)];
    area.draw(&Rectangle::new(corners, filled))?;
    let middle = y + ROW / 2 - 1;
    let ends = [(scale(summary.min), middle), (scale(summary.max), middle)];
    area.draw(&PathElement::new(ends, BLACK.stroke_width(1)))?;
    let mut text = number(summary.median);
    if let Some(ratio) = ratio {
        text += &format!(
            "   {:.2}× [{:.2}, {:.2}]",
            ratio.median, ratio.min, ratio.max
        );
    }
    let beside = scale(summary.max.max(summary.median)) + 8;
    write(area, &text, (beside, y), 12.0, HPos::Left)
}

fn write<B: DrawingBackend>(
    area: &Area<B>,
    text: &str,
    at: (i32, i32),
    size: f64,
    side: HPos,
) -> Result<()>
where
    B::ErrorType: 'static,
{
    let font = ("sans", size).into_font();
    let style = TextStyle::from(font).pos(Pos::new(side, VPos::Top));
    area.draw_text(text, &style, at)?;
    Ok(())
}
