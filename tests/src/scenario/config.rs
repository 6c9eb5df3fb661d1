//! Everything a gateway is told, and how the forwarder is told.

use std::fmt::Write as _;
use std::path::Path;

use super::forwarder::control;
use super::{Masquerade, Mode, Output, Rule, Uplink};

/// Everything a gateway is told.
#[derive(Clone, Debug, Default)]
pub struct GatewayConfig {
    /// Devices the forwarder attaches to.
    pub interfaces: Vec<&'static str>,
    /// The forwards.
    pub rules: Vec<Rule>,
    /// What clients behind the gateway may.
    pub masquerades: Vec<Masquerade>,
    /// Where connections of the gateway itself go.
    pub outputs: Vec<Output>,
    /// Ways to the outside, where there are several.
    pub uplinks: Vec<Uplink>,
    /// `FIRST-LAST`, the ports that translated sources may have.
    pub source_ports: Option<&'static str>,
}

impl GatewayConfig {
    /// The forwarder's configuration file.
    #[must_use]
    pub fn to_toml(&self, mode: Mode, socket: &Path) -> String {
        let mut text = String::new();
        for interface in &self.interfaces {
            let mode = mode.as_str();
            let _ = writeln!(
                text,
                "[[interface]]\nname = \"{interface}\"\nmode = \"{mode}\"\n"
            );
        }
        text.extend(self.rules.iter().copied().map(Rule::to_toml));
        text.extend(self.masquerades.iter().copied().map(Masquerade::to_toml));
        text.extend(self.outputs.iter().copied().map(Output::to_toml));
        if let Some(ports) = self.source_ports {
            let _ = writeln!(text, "[limits]\nsource-ports = \"{ports}\"\n");
        }
        text + &control(socket)
    }
}

impl Rule {
    fn to_toml(self) -> String {
        let mut text = format!(
            "[[forward]]\nname = \"{}\"\nprotocol = \"{}\"\nlisten = \"{}\"\nto = \"{}\"\nsource = \"{}\"\n",
            self.name,
            self.protocol.as_str(),
            self.listen,
            self.to,
            self.source.as_str(),
        );
        text += &list("allow", self.allow);
        text += &list("deny", self.deny);
        text.extend(self.extra.iter().map(|line| format!("{line}\n")));
        text + "\n"
    }
}

impl Masquerade {
    fn to_toml(self) -> String {
        let mut text = format!(
            "[[masquerade]]\nname = \"{}\"\ninterface = \"{}\"\nsource = \"{}\"\n",
            self.name,
            self.interface,
            self.source.as_str(),
        );
        text += &list("from", self.from);
        text += &list("ports", self.ports);
        if self.unfiltered {
            text += "filtering = \"endpoint-independent\"\n";
        }
        text + "\n"
    }
}

impl Output {
    fn to_toml(self) -> String {
        format!(
            "[[output]]\nname = \"{}\"\nprotocol = \"{}\"\nto-address = \"{}\"\nto = \"{}\"\n\n",
            self.name,
            self.protocol.as_str(),
            self.to_address,
            self.to,
        )
    }
}

/// A key with its list, or nothing for an empty one.
fn list(key: &str, texts: &[&str]) -> String {
    if texts.is_empty() {
        return String::new();
    }
    // Debug formatting of a list of plain strings is a TOML array.
    format!("{key} = {texts:?}\n")
}
