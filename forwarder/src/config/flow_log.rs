//! `[flow-log]`.

use toml::de::DeTable;

use super::errors::Diagnostic;
use super::model_settings::{FlowLog, Format};
use super::scalar;
use super::schema;
use super::tree::{Reader, Section, Value};
use crate::events::Kind;

const EXAMPLE: &str = "/var/log/forwarder/flows.log";
const KINDS: [(&str, Kind); 3] = [
    ("new", Kind::New),
    ("established", Kind::Established),
    ("closed", Kind::Closed),
];

/// What the file says of the flow log; without the table there is none.
pub(super) fn read<'a>(reader: &mut Reader<'a>, root: &'a DeTable<'a>) -> Option<FlowLog> {
    let section = Section::single(reader, root, &schema::FLOW_LOG)?;
    let (path, journald) = (section.get("path"), section.get("journald"));
    if path.is_none() && journald.is_none() {
        let message = "`[flow-log]` without `path` and without `journald`: expected one of them";
        reader.push(Diagnostic::whole(section.span, message));
    }
    let journald = journald.map(|value| (scalar::boolean(reader, value), value.span));
    if let (None, Some((Some(false), span))) = (path, journald) {
        let message = "`[flow-log]` leads nowhere: expected a `path` or `journald = true`";
        reader.push(Diagnostic::whole(span, message));
    }
    let format = section
        .get("format")
        .and_then(|value| scalar::word_value(reader, value, &Format::WORDS));
    Some(FlowLog {
        path: path.and_then(|value| scalar::file_path(reader, value, EXAMPLE)),
        journald: journald.is_some_and(|(flag, _)| flag == Some(true)),
        format: format.unwrap_or(Format::Json),
        events: match section.get("events") {
            Some(value) => kinds(reader, value),
            None => vec![Kind::New, Kind::Closed],
        },
    })
}

fn kinds<'a>(reader: &mut Reader<'a>, value: Value<'a>) -> Vec<Kind> {
    let elements = value.elements();
    if elements.is_empty() {
        let message = "empty list of events, `[]`: expected `new`, `established` or `closed`";
        reader
            .push(Diagnostic::at(value.span, message).help("to log nothing, leave the table out"));
    }
    let kinds = elements.into_iter();
    let kinds = kinds.filter_map(|element| scalar::word_value(reader, element, &KINDS));
    kinds.collect()
}
