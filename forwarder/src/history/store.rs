//! The database: a table for each day on which something was written, so that a day that is over goes as a whole.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use redb::{
    Database, DatabaseError, ReadOnlyDatabase, ReadTransaction, ReadableDatabase as _,
    ReadableTable as _, TableDefinition, TableHandle as _, backends::FileBackend,
};
use thiserror::Error;

use super::{
    Record, WhoQuery,
    record::{self, Value},
};
use crate::{control::FlowProtocol, events::FlowEvent};

/// The owner only: it tells who talked to whom.
const MODE: u32 = 0o600;
/// Memory for pages that are read or about to be written.
const CACHE: usize = 32 << 20;
/// Days are counted from 1970.
const TABLE: &str = "flows-";
/// More answers than anybody reads.
const MOST: usize = 10_000;

/// Why the history cannot be used.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum HistoryError {
    #[error("another process has the history {} open: ask the forwarder that runs", .0.display())]
    InUse(PathBuf),
    #[error("cannot open the history {}: {error}; its directory must exist and be writable", path.display())]
    Open {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("{} is no history of this version ({reason}): move it away, and a new one is begun", path.display())]
    Foreign { path: PathBuf, reason: String },
    #[error("the history cannot be used: {0}")]
    Database(#[from] redb::Error),
}

/// An open database.
#[derive(Debug)]
pub struct Store {
    database: Database,
}

/// One that is only read, while no forwarder runs.
pub struct Reader {
    database: ReadOnlyDatabase,
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// By time.
    pub records: Vec<Record>,
    /// Older ones that are not among them.
    pub left_out: u64,
}

impl Store {
    /// Opens the database, or makes it.
    ///
    /// # Errors
    /// It is in use, cannot be read and written, or is something else.
    pub fn open(path: &Path) -> Result<Self, HistoryError> {
        let file = file(path).map_err(|error| HistoryError::Open {
            path: path.to_owned(),
            error,
        })?;
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE);
        let backend = FileBackend::new(file).map_err(|error| refusal(path, error))?;
        let database = builder.create_with_backend(backend);
        let database = database.map_err(|error| refusal(path, error))?;
        Ok(Self { database })
    }

    /// Writes what `events` say, all or nothing, in the table of the day `today`.
    ///
    /// # Errors
    /// The disk is full or does not answer; then the database must be opened anew.
    pub fn write(&self, events: &[FlowEvent], boot: u32, today: i64) -> Result<(), HistoryError> {
        let mut keyed: Vec<_> = events
            .iter()
            .map(|event| (record::key(event, boot), event))
            .collect();
        // Stable, so that the events of a flow stay in order; neighbours go to the same pages.
        keyed.sort_by(|one, other| one.0.cmp(&other.0));
        let mut write = self.database.begin_write().map_err(redb::Error::from)?;
        // A killed daemon must not have to walk through gigabytes before it can go on.
        write.set_quick_repair(true);
        {
            let name = format!("{TABLE}{today}");
            let mut table = write.open_table(table(&name)).map_err(redb::Error::from)?;
            for (key, event) in keyed {
                let known = table.get(key.as_slice()).map_err(redb::Error::from)?;
                let known = known.and_then(|value| decode(value.value()));
                let Some(value) = merge(known, Value::of(event)) else {
                    continue;
                };
                let bytes = postcard::to_stdvec(&value).unwrap_or_default();
                let inserted = table.insert(key.as_slice(), bytes.as_slice());
                inserted.map_err(redb::Error::from)?;
            }
        }
        Ok(write.commit().map_err(redb::Error::from)?)
    }

    /// Removes what was written before the day `first`; returns how many days these were.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn prune(&self, first: i64) -> Result<usize, HistoryError> {
        let write = self.database.begin_write().map_err(redb::Error::from)?;
        let names: Vec<String> = write
            .list_tables()
            .map_err(redb::Error::from)?
            .map(|table| table.name().to_owned())
            .filter(|name| day(name).is_some_and(|day| day < first))
            .collect();
        if names.is_empty() {
            return Ok(0);
        }
        let mut write = write;
        write.set_quick_repair(true);
        for name in &names {
            write.delete_table(table(name)).map_err(redb::Error::from)?;
        }
        write.commit().map_err(redb::Error::from)?;
        Ok(names.len())
    }

    /// Who is asked for.
    ///
    /// # Errors
    /// The disk does not answer.
    pub fn find(&self, query: &WhoQuery) -> Result<Found, HistoryError> {
        find(self.database.begin_read(), query)
    }
}

impl Reader {
    /// Opens a database that no forwarder uses.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(path: &Path) -> Result<Self, HistoryError> {
        if let Err(error) = File::open(path) {
            let path = path.to_owned();
            return Err(HistoryError::Open { path, error });
        }
        let database = ReadOnlyDatabase::open(path);
        let database = database.map_err(|error| refusal(path, error))?;
        Ok(Self { database })
    }

    /// Who is asked for.
    ///
    /// # Errors
    /// The disk does not answer.
    pub fn find(&self, query: &WhoQuery) -> Result<Found, HistoryError> {
        find(self.database.begin_read(), query)
    }
}

fn find(
    read: Result<ReadTransaction, redb::TransactionError>,
    query: &WhoQuery,
) -> Result<Found, HistoryError> {
    let read = read.map_err(redb::Error::from)?;
    let mut found = HashMap::new();
    let names: Vec<String> = read
        .list_tables()
        .map_err(redb::Error::from)?
        .map(|table| table.name().to_owned())
        .filter(|name| day(name).is_some())
        .collect();
    let protocols = [FlowProtocol::Tcp, FlowProtocol::Udp, FlowProtocol::Icmp];
    for name in names {
        let table = read.open_table(table(&name)).map_err(redb::Error::from)?;
        for protocol in protocols {
            if query.protocol.is_none_or(|wanted| wanted == protocol) {
                let prefix = record::prefix(protocol, query.translated);
                let range = table
                    .range(prefix.as_slice()..)
                    .map_err(redb::Error::from)?;
                for entry in range {
                    let (key, value) = entry.map_err(redb::Error::from)?;
                    if !key.value().starts_with(&prefix) {
                        break;
                    }
                    let record = decode(value.value())
                        .and_then(|value| value.record(key.value(), (protocol, query.translated)));
                    if let Some(record) = record {
                        keep(&mut found, key.value(), record);
                    }
                }
            }
        }
    }
    Ok(Found::of(found.into_values(), query))
}

/// A flow that began on one day and ended on another is in both tables.
fn keep(found: &mut HashMap<Vec<u8>, Record>, key: &[u8], record: Record) {
    match found.get_mut(key) {
        Some(known) if known.closed.is_none() => {
            let start = known.start;
            *known = Record { start, ..record };
        }
        Some(known) => known.start = record.start,
        None => _ = found.insert(key.to_owned(), record),
    }
}

impl Found {
    /// Those that are meant, by time, and of very many the latest.
    pub fn of(records: impl IntoIterator<Item = Record>, query: &WhoQuery) -> Self {
        let records = records.into_iter();
        let mut records: Vec<_> = records
            .filter(|record| query.takes(record.start, record.closed.map(|closed| closed.end)))
            .collect();
        records.sort_by_key(|record| (record.start, record.client));
        let left_out = records.len().saturating_sub(MOST);
        records.drain(..left_out);
        Self {
            records,
            left_out: left_out as u64,
        }
    }
}

/// What is to be kept of a flow of which something is kept already; `None`: just that.
fn merge(known: Option<Value>, new: Value) -> Option<Value> {
    match known {
        // The programs' word may come after the sweep's.
        Some(_) if new.end.is_none() => None,
        // That it begins was told when it did.
        Some(known) => Some(Value {
            start: known.start,
            ..new
        }),
        None => Some(new),
    }
}

fn decode(bytes: &[u8]) -> Option<Value> {
    postcard::from_bytes(bytes).ok()
}

fn table(name: &str) -> TableDefinition<'_, &'static [u8], &'static [u8]> {
    TableDefinition::new(name)
}

/// The day of a table.
fn day(name: &str) -> Option<i64> {
    name.strip_prefix(TABLE)?.parse().ok()
}

fn file(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    // A link in a directory that others may write to must not lead root elsewhere.
    options.mode(MODE).custom_flags(libc::O_NOFOLLOW);
    options.open(path)
}

fn refusal(path: &Path, error: DatabaseError) -> HistoryError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen => HistoryError::InUse(path),
        DatabaseError::Storage(redb::StorageError::Io(error))
            if error.kind() != std::io::ErrorKind::InvalidData =>
        {
            HistoryError::Open { path, error }
        }
        error => HistoryError::Foreign {
            path,
            reason: error.to_string(),
        },
    }
}
