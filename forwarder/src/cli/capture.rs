//! `forwarder capture`.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::args::CaptureArgs;
use super::{output, query};
use crate::capture::{self, Captured, Options};
use crate::report::counted;

pub(super) fn capture(args: &CaptureArgs) -> Result<()> {
    let socket = query::socket(&args.socket)?;
    let options = Options {
        rule: args.rule.clone(),
        count: args.count,
        length: args.snaplen,
    };
    let begun = || {
        let whose = options
            .rule
            .as_deref()
            .map_or_else(|| "every rule".to_owned(), |rule| format!("rule {rule}"));
        output::error(&format!("capturing packets of {whose}; Ctrl-C stops"));
    };
    let out = open(&args.write)?;
    let captured = capture::capture(&socket, &options, out, begun)?;
    output::error(&sentence(&captured, &args.write));
    match captured.abandoned {
        true => bail!("the forwarder went away: what there is, is in the file"),
        false => Ok(()),
    }
}

/// The file, or standard output for `-`.
fn open(path: &Path) -> Result<Box<dyn Write>> {
    if path != Path::new("-") {
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        return Ok(Box::new(file));
    }
    if io::stdout().is_terminal() {
        bail!(
            "a capture is nothing for a terminal: name a file, or pipe it into `wireshark -k -i -`"
        );
    }
    Ok(Box::new(io::stdout()))
}

fn sentence(captured: &Captured, path: &Path) -> String {
    let packets = counted(
        usize::try_from(captured.packets).unwrap_or(usize::MAX),
        "packet",
    );
    let lost = match captured.lost {
        0 => String::new(),
        lost => {
            format!("; {lost} copies lost, as they came too fast: name a rule, or lower --snaplen")
        }
    };
    format!(
        "{packets}, each before and after translation, in {}{lost}",
        path.display()
    )
}
