//! What the verifier had to walk through: a record in the repository, so that growth is a decision.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use super::bench::SMALL;
use super::loaded::Loaded;

/// Growth that passes, in percent: compilers differ.
const TOLERANCE: u32 = 10;
/// Rewrites the record for this kernel when set to 1.
const UPDATE: &str = "UPDATE_VERIFIER_COST";
const HEADER: &str = "\
# Instructions the verifier walked through, by kernel (major.minor) and program; its limit is one million.
# A test fails on more than 10 % above these. To accept growth: UPDATE_VERIFIER_COST=1 cargo test -p tests --test prog_run cost
";

/// Programs by name, by kernel.
type Record = BTreeMap<String, BTreeMap<String, u32>>;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/verifier-cost.toml")
}

/// `6.18` of `6.18.44-anything`.
fn kernel() -> Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut parts = release.split(['.', '-']);
    let major = parts.next().context("no kernel version")?;
    let minor = parts.next().context("no kernel version")?;
    Ok(format!("{major}.{minor}"))
}

/// The two levels of tables that the record has, and nothing else of TOML.
fn read(text: &str) -> Result<Record> {
    let mut record = Record::new();
    let mut kernel = None;
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if let Some(name) = line
            .strip_prefix("[\"")
            .and_then(|rest| rest.strip_suffix("\"]"))
        {
            kernel = Some(record.entry(name.to_owned()).or_default());
            continue;
        }
        let (program, count) = line.split_once(" = ").with_context(|| line.to_owned())?;
        let programs = kernel.as_mut().with_context(|| line.to_owned())?;
        programs.insert(
            program.to_owned(),
            count.parse().with_context(|| line.to_owned())?,
        );
    }
    Ok(record)
}

fn write(record: &Record) -> String {
    let mut text = HEADER.to_owned();
    for (kernel, programs) in record {
        let _ = writeln!(text, "\n[\"{kernel}\"]");
        for (program, count) in programs {
            let _ = writeln!(text, "{program} = {count}");
        }
    }
    text
}

#[test]
fn the_programs_cost_the_verifier_no_more_than_recorded() -> Result<()> {
    let kernel = kernel()?;
    let mut found = BTreeMap::new();
    for (program, count) in Loaded::of(SMALL).verified()? {
        let Some(count) = count else {
            println!("this kernel does not count; nothing to compare");
            return Ok(());
        };
        found.insert(program.to_owned(), count);
    }
    let mut record = read(&fs::read_to_string(path()).unwrap_or_default())?;
    if std::env::var_os(UPDATE).is_some_and(|value| value == "1") {
        record.insert(kernel, found);
        return Ok(fs::write(path(), write(&record))?);
    }
    let Some(recorded) = record.get(&kernel) else {
        println!("no record for Linux {kernel}: {found:?}; {UPDATE}=1 adds one");
        return Ok(());
    };
    let grown: Vec<_> = found
        .iter()
        .filter(|(program, count)| {
            let recorded = recorded.get(*program).copied().unwrap_or(0);
            u64::from(**count) * 100 > u64::from(recorded) * u64::from(100 + TOLERANCE)
        })
        .collect();
    ensure!(
        grown.is_empty(),
        "more than {TOLERANCE} % above {recorded:?} on Linux {kernel}: {grown:?}; run again with {UPDATE}=1 to accept it"
    );
    Ok(())
}

#[test]
fn the_record_is_as_this_test_writes_it() -> Result<()> {
    let text = fs::read_to_string(path())?;
    assert_eq!(write(&read(&text)?), text);
    Ok(())
}
