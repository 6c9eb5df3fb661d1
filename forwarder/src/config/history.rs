//! `[history]`.

use std::time::Duration;

use toml::de::DeTable;

use super::model_settings::History;
use super::scalar;
use super::schema;
use super::tree::{Reader, Section};

const EXAMPLE: &str = "/var/lib/forwarder/history.redb";
const DAY: u64 = 24 * 60 * 60;

/// What the file says of the history; without the table there is none.
pub(super) fn read<'a>(reader: &mut Reader<'a>, root: &'a DeTable<'a>) -> Option<History> {
    let section = Section::single(reader, root, &schema::HISTORY)?;
    let range = Duration::from_secs(DAY)..=Duration::from_secs(3660 * DAY);
    let keep = section
        .get("keep")
        .and_then(|value| scalar::duration_in(reader, value, (range, "1d to 3660d")));
    let path = section.require(reader, "path")?;
    Some(History {
        path: scalar::file_path(reader, path, EXAMPLE)?,
        keep: keep.unwrap_or(History::KEEP),
    })
}
