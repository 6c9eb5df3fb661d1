//! `[metrics]`.

use std::net::SocketAddr;

use toml::de::DeTable;

use super::model_settings::Metrics;
use super::schema;
use super::tree::{Reader, Section};

const EXPECTED: &str =
    "an address and a port from 1 to 65535 such as \"127.0.0.1:9469\" or \"[::1]:9469\"";

/// What the file says of metrics; without the table there are none.
pub(super) fn read<'a>(reader: &mut Reader<'a>, root: &'a DeTable<'a>) -> Option<Metrics> {
    let section = Section::single(reader, root, &schema::METRICS)?;
    let value = section.require(reader, "listen")?;
    let token = value.token(reader, EXPECTED)?;
    match token.text.parse::<SocketAddr>() {
        Ok(listen) if listen.port() != 0 => Some(Metrics { listen }),
        _ => {
            let message = format!("bad listen address {}: expected {EXPECTED}", token.quoted());
            reader.push(token.error(message).maybe_help(meant(token.text)));
            None
        }
    }
}

/// What a port alone, a name or a star stands for.
fn meant(text: &str) -> Option<String> {
    let (address, port) = text.rsplit_once(':').unwrap_or(("", text));
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    match address {
        "*" => Some(format!("did you mean `0.0.0.0:{port}`?")),
        "" | "localhost" => Some(format!("did you mean `127.0.0.1:{port}`?")),
        _ => None,
    }
}
