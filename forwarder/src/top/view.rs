//! The view on a terminal of any size.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Clear, Paragraph, Row, Sparkline, Table},
};

use super::app::{App, Pane};
use crate::report::human;

/// Lines that the three tables need; on a smaller terminal there is the one that keys are for.
const ALL_PANES: u16 = 20;

const KEYS: [(&str, &str); 9] = [
    ("Tab, 1-3", "the next table, or rules, flows, drops"),
    ("arrows, j, k", "scroll; also page up and down, Home"),
    ("s", "sort by the next column"),
    ("r", "the other way round"),
    (
        "/",
        "only rows with a text in them; Enter ends it, Esc takes it away",
    ),
    ("z, Enter", "this table alone, or all three"),
    ("p, space", "pause, and go on"),
    ("?, h", "this"),
    ("q, Ctrl-C", "quit"),
];

/// Draws everything.
pub fn draw(frame: &mut Frame, app: &App) {
    let alone = app.zoomed || frame.area().height < ALL_PANES;
    let head = if frame.area().height < 12 { 0 } else { 3 };
    let [facts, history, body, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(head),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(facts_line(app)), facts);
    draw_history(frame, app, history);
    if alone {
        draw_pane(frame, app, app.focus, body);
    } else {
        let shares = [3, 5, 3].map(Constraint::Fill);
        let areas: [Rect; 3] = Layout::vertical(shares).areas(body);
        for (pane, area) in Pane::ALL.into_iter().zip(areas) {
            draw_pane(frame, app, pane, area);
        }
    }
    frame.render_widget(Paragraph::new(keys_line(app)), keys);
    if app.help {
        draw_help(frame);
    }
}

fn facts_line(app: &App) -> Line<'static> {
    let status = &app.model.status;
    let fill = |fill: crate::report::Fill| {
        format!(
            "{} of {}",
            human::count(fill.used),
            human::count(fill.limit)
        )
    };
    let text = format!(
        "forwarder {}, up {}   {}   {}   flows {}   half-open {}",
        status.version,
        human::duration(status.uptime_seconds),
        human::rate(app.model.packets),
        human::bits(app.model.bits),
        fill(status.flows),
        fill(status.half_open),
    );
    let mut spans = vec![Span::styled(text, Modifier::BOLD)];
    if app.paused {
        spans.push(Span::styled("   paused", Modifier::REVERSED));
    }
    Line::from(spans)
}

fn draw_history(frame: &mut Frame, app: &App, area: Rect) {
    let width = usize::from(area.width);
    let history = &app.model.history;
    let shown: Vec<u64> = history
        .iter()
        .skip(history.len().saturating_sub(width))
        .copied()
        .collect();
    frame.render_widget(Sparkline::default().data(&shown), area);
}

fn keys_line(app: &App) -> Line<'static> {
    if let Some(problem) = &app.problem {
        return Line::styled(problem.clone(), Modifier::REVERSED);
    }
    if app.typing {
        return Line::from(format!("only rows with: {}_", app.filter));
    }
    let filter = match app.filter.as_str() {
        "" => String::new(),
        filter => format!("   only rows with {filter:?}, Esc for all"),
    };
    Line::from(format!(
        "? help   Tab table   s sort   r reverse   / filter   p pause   q quit{filter}"
    ))
}

fn draw_help(frame: &mut Frame) {
    let lines = KEYS.map(|(key, what)| Line::from(format!(" {key:<13} {what}")));
    let (width, height) = (78, KEYS.len() as u16 + 2);
    let area = frame
        .area()
        .centered(Constraint::Length(width), Constraint::Length(height));
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(" keys; any key closes this ");
    frame.render_widget(Paragraph::new(lines.to_vec()).block(block), area);
}

fn draw_pane(frame: &mut Frame, app: &App, pane: Pane, area: Rect) {
    // Borders take two lines and the heading one.
    let room = usize::from(area.height.saturating_sub(2));
    let (name, rows, widths, heading) = match pane {
        Pane::Rules => (
            "rules",
            rules(app),
            RULE_WIDTHS.as_slice(),
            RULE_HEADING.as_slice(),
        ),
        Pane::Flows => (
            "flows",
            flows(app),
            FLOW_WIDTHS.as_slice(),
            FLOW_HEADING.as_slice(),
        ),
        Pane::Drops => (
            "drops",
            drops(app),
            DROP_WIDTHS.as_slice(),
            DROP_HEADING.as_slice(),
        ),
    };
    let count = rows.len();
    let first = app.scroll[pane as usize].min(count.saturating_sub(room.max(1)));
    let direction = if app.reversed[pane as usize] {
        ", reversed"
    } else {
        ""
    };
    let title = format!(" {count} {name} by {}{direction} ", app.order_of(pane));
    let style = if pane == app.focus {
        Style::new().add_modifier(Modifier::BOLD)
    } else {
        Style::new()
    };
    let rows = rows.into_iter().skip(first).take(room);
    let table = Table::new(rows, widths)
        .column_spacing(2)
        .header(Row::new(heading.iter().copied()).style(Modifier::UNDERLINED))
        .block(
            Block::new()
                .borders(ratatui::widgets::Borders::TOP)
                .title(title)
                .border_style(style)
                .title_style(style),
        );
    frame.render_widget(table, area);
}

const RULE_HEADING: [&str; 6] = ["RULE", "FLOWS", "NEW", "PACKETS", "BITS", "PACKETS SO FAR"];
const RULE_WIDTHS: [Constraint; 6] = [
    Constraint::Fill(2),
    Constraint::Length(9),
    Constraint::Length(9),
    Constraint::Length(12),
    Constraint::Length(10),
    Constraint::Fill(3),
];

fn rules(app: &App) -> Vec<Row<'static>> {
    let rows = app.rules().into_iter().map(|rule| {
        Row::new([
            printable(&rule.name),
            human::count(rule.flows),
            human::rate(rule.opened),
            human::rate(rule.packets),
            human::bits(rule.bits),
            bars(&rule.history),
        ])
    });
    rows.collect()
}

const FLOW_HEADING: [&str; 9] = [
    "PROTO", "STATE", "RULE", "CLIENT", "BACKEND", "PACKETS", "BITS", "BYTES", "IDLE",
];
const FLOW_WIDTHS: [Constraint; 9] = [
    Constraint::Length(5),
    Constraint::Length(11),
    Constraint::Fill(1),
    Constraint::Fill(2),
    Constraint::Fill(2),
    Constraint::Length(10),
    Constraint::Length(10),
    Constraint::Length(8),
    Constraint::Length(7),
];

fn flows(app: &App) -> Vec<Row<'static>> {
    let rows = app.flows().into_iter().map(|flow| {
        Row::new([
            flow.protocol.clone(),
            flow.state.clone(),
            printable(&flow.rule),
            flow.client.clone(),
            flow.backend.clone(),
            human::rate(flow.packets),
            human::bits(flow.bits),
            human::bytes(flow.bytes),
            human::duration(flow.idle),
        ])
    });
    rows.collect()
}

const DROP_HEADING: [&str; 5] = [
    "REASON",
    "VERDICT",
    "RATE",
    "PACKETS",
    "LAST PACKET, OR MEANING",
];
const DROP_WIDTHS: [Constraint; 5] = [
    Constraint::Length(19),
    Constraint::Length(9),
    Constraint::Length(9),
    Constraint::Length(12),
    Constraint::Fill(1),
];

fn drops(app: &App) -> Vec<Row<'static>> {
    let rows = app.drops().into_iter().map(|one| {
        Row::new([
            one.reason.clone(),
            one.verdict.clone(),
            human::rate(one.rate),
            human::count(one.packets),
            printable(&one.last),
        ])
    });
    rows.collect()
}

/// A name from elsewhere must not move the cursor.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// The latest figures as bars, the newest first: what does not fit is the oldest.
fn bars(history: &[u64]) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = history.iter().copied().max().unwrap_or(0).max(1);
    let bar = |figure: &u64| {
        // Rounded up, so that little is not nothing.
        let eighths = (figure * 8).div_ceil(most);
        BARS[usize::try_from(eighths).unwrap_or(8).min(8)]
    };
    history.iter().rev().map(bar).collect()
}
