//! Figures on record in the repository, so that growth is a decision.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use anyhow::{Context as _, Result, ensure};

/// Numbers by table and name.
pub type Tables = BTreeMap<String, BTreeMap<String, u32>>;

/// A file of figures.
pub struct Record {
    /// Its name in `docs`.
    pub file: &'static str,
    /// What it says first.
    pub header: &'static str,
    /// The variable of the environment that has a test write it anew, if it is 1.
    pub update: &'static str,
    /// The most that passes of a figure with this name, of which so much is on record.
    pub most: fn(&str, u32) -> u32,
}

impl Record {
    fn path(&self) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../docs")
            .join(self.file)
    }

    /// The two levels of tables that a record has, and nothing else of TOML.
    fn parse(text: &str) -> Result<Tables> {
        let mut tables = Tables::new();
        let mut current = None;
        for line in text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let header = line.strip_prefix("[\"");
            if let Some(name) = header.and_then(|rest| rest.strip_suffix("\"]")) {
                current = Some(tables.entry(name.to_owned()).or_default());
                continue;
            }
            let (name, number) = line.split_once(" = ").with_context(|| line.to_owned())?;
            let table = current.as_mut().with_context(|| line.to_owned())?;
            let number = number.parse().with_context(|| line.to_owned())?;
            table.insert(name.to_owned(), number);
        }
        Ok(tables)
    }

    fn text(&self, tables: &Tables) -> String {
        let mut text = self.header.to_owned();
        for (name, table) in tables {
            let _ = writeln!(text, "\n[\"{name}\"]");
            for (name, number) in table {
                let _ = writeln!(text, "{name} = {number}");
            }
        }
        text
    }

    /// What is on record.
    pub fn read(&self) -> Result<Tables> {
        Self::parse(&fs::read_to_string(self.path()).unwrap_or_default())
    }

    /// Whether the file is to be written anew.
    pub fn is_updated(&self) -> bool {
        std::env::var_os(self.update).is_some_and(|value| value == "1")
    }

    /// Fails if a figure is larger than the record lets it be, or if they are not the same figures. Writes them down
    /// instead where that is asked for.
    pub fn check(&self, table: &str, found: &BTreeMap<String, u32>) -> Result<()> {
        // Of one process, the tests of which run at the same time.
        static WRITER: Mutex<()> = Mutex::new(());
        if self.is_updated() {
            let _alone = WRITER.lock();
            let mut tables = self.read()?;
            tables.insert(table.to_owned(), found.clone());
            return Ok(fs::write(self.path(), self.text(&tables))?);
        }
        let recorded = self.read()?.remove(table).unwrap_or_default();
        let differences = self.differences(&recorded, found);
        ensure!(
            differences.is_empty(),
            "{table}: not as in docs/{}; to accept it run again with {}=1\n{}",
            self.file,
            self.update,
            differences.join("\n")
        );
        Ok(())
    }

    fn differences(
        &self,
        recorded: &BTreeMap<String, u32>,
        found: &BTreeMap<String, u32>,
    ) -> Vec<String> {
        let mut differences = Vec::new();
        for (name, count) in found {
            match recorded.get(name) {
                None => differences.push(format!("{name}: {count} and not on record")),
                Some(known) if *count > (self.most)(name, *known) => {
                    differences.push(format!("{name}: {count} instead of {known}"));
                }
                Some(_) => {}
            }
        }
        let gone = recorded.keys().filter(|name| !found.contains_key(*name));
        differences.extend(gone.map(|name| format!("{name}: on record and gone")));
        differences
    }

    /// Fails unless the file is as [`Record::check`] writes it.
    pub fn is_tidy(&self) -> Result<()> {
        let text = fs::read_to_string(self.path())?;
        ensure!(
            self.text(&Self::parse(&text)?) == text,
            "docs/{} is written by hand",
            self.file
        );
        Ok(())
    }
}

/// So many percent more.
pub fn percent(known: u32, more: u32) -> u32 {
    known + known * more / 100
}

#[test]
fn growth_is_found() -> Result<()> {
    let record = Record {
        file: "none",
        header: "# None.\n",
        update: "NONE",
        most: |name, known| {
            if name == "x" {
                known
            } else {
                percent(known, 10)
            }
        },
    };
    let text = "# None.\n\n[\"a\"]\nx = 1\ny.z = 200\n\n[\"b\"]\nx = 3\n";
    let tables = Record::parse(text)?;
    assert_eq!(record.text(&tables), text);
    let recorded = &tables["a"];
    let differences = |x: &[(&str, u32)]| {
        let found = x.iter().map(|(name, count)| ((*name).to_owned(), *count));
        record.differences(recorded, &found.collect())
    };
    assert!(differences(&[("x", 1), ("y.z", 220)]).is_empty());
    assert!(differences(&[("x", 0), ("y.z", 0)]).is_empty());
    let found = differences(&[("x", 2), ("y.z", 221), ("new", 0)]);
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(differences(&[("x", 1)]), ["y.z: on record and gone"]);
    Ok(())
}
