//! The rules of one family as `iptables-restore` takes them.

use anyhow::{Context, Result, bail, ensure};

use crate::scenario::{Family, GatewayConfig, Masquerade, Output, Rule, Source, Uplink};

/// The rules of a configuration that are of one family.
pub(super) fn restore(config: &GatewayConfig, family: Family) -> Result<String> {
    let mut nat = Vec::new();
    let mut mangle = Vec::new();
    let mut filter = Vec::new();
    for rule in config.rules.iter().filter(|rule| rule.is_of(family)) {
        nat.extend(rule.nat_lines(config.source_ports)?);
        mangle.extend(rule.filter_lines()?);
    }
    let masquerades = config.masquerades.iter();
    for masquerade in masquerades.filter(|it| it.from.iter().any(|it| Family::of(it) == family)) {
        nat.extend(masquerade.nat_lines(config.source_ports)?);
        filter.extend(masquerade.filter_lines(family)?);
    }
    let outputs = config.outputs.iter();
    nat.extend(
        outputs
            .filter(|output| Family::of(output.to) == family)
            .map(Output::nat_line)
            .collect::<Result<Vec<_>>>()?,
    );
    mangle.extend(uplink_lines(config));
    if !filter.is_empty() {
        // What is not permitted is refused, and nothing comes in but replies.
        filter.insert(0, ":FORWARD DROP".to_owned());
        filter.insert(
            1,
            "-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT".to_owned(),
        );
    }
    let table = |name: &str, lines: &[String]| format!("*{name}\n{}\nCOMMIT\n", lines.join("\n"));
    Ok(table("mangle", &mangle) + &table("nat", &nat) + &table("filter", &filter))
}

/// Remembers by which uplink a connection came, and marks its replies so that policy routing sends them there.
fn uplink_lines(config: &GatewayConfig) -> Vec<String> {
    let mut lines = Vec::new();
    for (mark, Uplink { device, .. }) in (1..).zip(&config.uplinks) {
        lines.push(format!(
            "-A PREROUTING -i {device} -m conntrack --ctstate NEW -j CONNMARK --set-mark {mark}"
        ));
    }
    for device in &config.interfaces {
        if !config.uplinks.is_empty()
            && config.uplinks.iter().all(|uplink| uplink.device != *device)
        {
            lines.push(format!(
                "-A PREROUTING -i {device} -j CONNMARK --restore-mark"
            ));
        }
    }
    lines
}

impl Rule {
    fn is_of(&self, family: Family) -> bool {
        match (
            self.to.strip_prefix("local:"),
            self.listen.strip_prefix('*'),
        ) {
            (None, _) => Family::of(self.to) == family,
            // Any address of either family.
            (Some(_), Some(_)) => true,
            (Some(_), None) => Family::of(self.listen) == family,
        }
    }

    /// What selects the packets of this rule before translation.
    fn matches(&self) -> Result<String> {
        let (address, ports) = split(self.listen)?;
        let destination = match address {
            "*" => String::new(),
            address => format!("-d {address} "),
        };
        Ok(format!(
            "-p {} {destination}--dport {}",
            self.protocol.as_str(),
            ports.replace('-', ":")
        ))
    }

    fn nat_lines(&self, source_ports: Option<&str>) -> Result<Vec<String>> {
        let matches = self.matches()?;
        let (backend, ports) = split(self.to)?;
        if backend == "local" {
            return Ok(vec![format!(
                "-A PREROUTING {matches} -j REDIRECT --to-ports {ports}"
            )]);
        }
        let (_, listen) = split(self.listen)?;
        // With a base port the n-th port of a range goes to the n-th; without one iptables chooses any.
        let to = match listen.split_once('-') {
            Some((first, _)) => format!("{}/{first}", self.to),
            None => self.to.to_owned(),
        };
        let mut lines = vec![format!(
            "-A PREROUTING {matches} -j DNAT --to-destination {to}"
        )];
        let (protocol, ports) = (self.protocol.as_str(), ports.replace('-', ":"));
        let translated = format!("-p {protocol} -d {backend} --dport {ports}");
        if let Some(subnet) = self.hairpin {
            lines.push(format!(
                "-A POSTROUTING -s {subnet} {translated} -j MASQUERADE"
            ));
        }
        if self.source != Source::Preserve {
            let target = self.source.target(source_ports)?;
            lines.push(format!("-A POSTROUTING {translated} -j {target}"));
        }
        Ok(lines)
    }

    fn filter_lines(&self) -> Result<Vec<String>> {
        let matches = self.matches()?;
        let drop = |clients: String| format!("-A PREROUTING {clients}{matches} -j DROP");
        let mut lines: Vec<String> = self
            .deny
            .iter()
            .map(|prefix| drop(format!("-s {prefix} ")))
            .collect();
        ensure!(
            self.allow.len() <= 1,
            "one allowed prefix is what a single rule can say"
        );
        lines.extend(
            self.allow
                .iter()
                .map(|prefix| drop(format!("! -s {prefix} "))),
        );
        Ok(lines)
    }
}

impl Source {
    /// What follows `-j`.
    fn target(self, ports: Option<&str>) -> Result<String> {
        Ok(match (self, ports) {
            (Self::Preserve, _) => bail!("a source that is preserved is not translated"),
            (Self::Masquerade, None) => "MASQUERADE".to_owned(),
            (Self::Masquerade, Some(ports)) => format!("MASQUERADE --to-ports {ports}"),
            (Self::Address(text) | Self::Pool(text), None) => {
                format!("SNAT --to-source {text} --persistent")
            }
            (Self::Address(text) | Self::Pool(text), Some(ports)) => {
                let addresses = match Family::of(text) {
                    Family::V4 => text.to_owned(),
                    Family::V6 => format!("[{}]", text.replace('-', "]-[")),
                };
                format!("SNAT --to-source {addresses}:{ports} --persistent")
            }
        })
    }
}

impl Masquerade {
    fn nat_lines(&self, source_ports: Option<&str>) -> Result<Vec<String>> {
        let device = self.interface;
        let mut lines = Vec::new();
        for from in self.from {
            // Ports can be given only together with a protocol, and ICMP has none.
            for (protocol, ports) in [
                (" -p tcp", source_ports),
                (" -p udp", source_ports),
                ("", None),
            ] {
                let target = self.source.target(ports)?;
                lines.push(format!(
                    "-A POSTROUTING -s {from}{protocol} ! -o {device} -j {target}"
                ));
            }
        }
        Ok(lines)
    }

    fn filter_lines(&self, family: Family) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for from in self.from {
            let accept = |what: String| {
                format!("-A FORWARD -i {} -s {from}{what} -j ACCEPT", self.interface)
            };
            if self.ports.is_empty() {
                lines.push(accept(String::new()));
            }
            for text in self.ports {
                let (protocol, ports) = text
                    .split_once('/')
                    .with_context(|| format!("{text} is not PROTOCOL/PORT"))?;
                let ports = ports.replace('-', ":");
                lines.push(accept(format!(" -p {protocol} --dport {ports}")));
            }
            let echo = family.pick(
                " -p icmp --icmp-type echo-request",
                " -p icmpv6 --icmpv6-type echo-request",
            );
            lines.push(accept(echo.to_owned()));
        }
        Ok(lines)
    }
}

impl Output {
    fn nat_line(&self) -> Result<String> {
        let (address, port) = split(self.to_address)?;
        Ok(format!(
            "-A OUTPUT -p {} -d {address} --dport {port} -j DNAT --to-destination {}",
            self.protocol.as_str(),
            self.to
        ))
    }
}

/// Address, without brackets, and port.
fn split(address: &str) -> Result<(&str, &str)> {
    let (address, port) = address
        .rsplit_once(':')
        .with_context(|| format!("{address} has no port"))?;
    Ok((address.trim_matches(['[', ']']), port))
}
