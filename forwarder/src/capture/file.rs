//! The file: pcapng, see draft-ietf-opsawg-pcapng.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::time::Duration;

use forwarder_common::capture::{AFTER, REPLY, SLOW, Sample, UNADDRESSED};
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::interface_statistics::{
    InterfaceStatisticsBlock, InterfaceStatisticsOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::{PcapNgBlock as _, PcapNgWriter};
use pcap_file::{DataLink, Endianness};

/// `epb_flags`, direction: received, sent.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;
/// `if_tsresol`: nanoseconds.
const NANOSECONDS: u8 = 9;

/// A file that is being written.
pub(super) struct File<W: Write> {
    writer: PcapNgWriter<BufWriter<W>>,
    /// Numbers of the devices that are in the file.
    devices: HashMap<String, u32>,
    length: u32,
    /// The last packet's time.
    last: Duration,
}

/// What a sample's numbers mean.
pub(super) struct Described {
    /// Since 1970.
    pub time: Duration,
    pub rule: String,
    pub device: String,
}

impl<W: Write> File<W> {
    /// Begins a file of packets that are cut to `length` bytes.
    pub fn begin(out: W, length: u32) -> anyhow::Result<Self> {
        let application = concat!("forwarder capture ", env!("CARGO_PKG_VERSION"));
        let header = SectionHeaderBlock {
            endianness: Endianness::native(),
            options: vec![SectionHeaderOption::UserApplication(Cow::Borrowed(
                application,
            ))],
            ..SectionHeaderBlock::default()
        };
        Ok(Self {
            writer: PcapNgWriter::with_section_header(BufWriter::new(out), header)?,
            devices: HashMap::new(),
            length,
            last: Duration::ZERO,
        })
    }

    /// Adds a packet.
    pub fn packet(
        &mut self,
        sample: &Sample,
        described: &Described,
        bytes: &[u8],
    ) -> anyhow::Result<()> {
        let interface_id = self.device(&described.device)?;
        let direction = match sample.flags & AFTER {
            0 => INBOUND,
            _ => OUTBOUND,
        };
        let block = EnhancedPacketBlock {
            interface_id,
            timestamp: described.time,
            original_len: sample.length,
            data: Cow::Borrowed(bytes),
            options: vec![
                EnhancedPacketOption::Comment(Cow::Owned(comment(sample, &described.rule))),
                EnhancedPacketOption::Flags(direction),
            ],
        };
        self.writer.write_block(&block.into_block())?;
        self.last = described.time;
        Ok(())
    }

    /// The number of a device, which is described in front of its first packet.
    fn device(&mut self, name: &str) -> anyhow::Result<u32> {
        if let Some(number) = self.devices.get(name) {
            return Ok(*number);
        }
        let block = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: self.length,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        };
        self.writer.write_block(&block.into_block())?;
        let number = u32::try_from(self.devices.len())?;
        self.devices.insert(name.to_owned(), number);
        Ok(number)
    }

    /// Hands everything on.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        Ok(self.writer.get_mut().flush()?)
    }

    /// Ends the file with how many copies were lost, which is known for all devices together only.
    pub fn end(mut self, lost: u64) -> anyhow::Result<()> {
        let nanoseconds = u64::try_from(self.last.as_nanos()).unwrap_or(u64::MAX);
        if !self.devices.is_empty() {
            let block = InterfaceStatisticsBlock {
                interface_id: 0,
                timestamp: nanoseconds,
                options: vec![InterfaceStatisticsOption::IsbIfDrop(lost)],
            };
            self.writer.write_block(&block.into_block())?;
        }
        self.flush()
    }
}

/// What people read beside a packet.
fn comment(sample: &Sample, rule: &str) -> String {
    let direction = match sample.flags & REPLY {
        0 => "original",
        _ => "reply",
    };
    let moment = match sample.flags & AFTER {
        0 => "before",
        _ => "after",
    };
    let path = match sample.flags & SLOW {
        0 => "XDP",
        _ => "TC",
    };
    let addressed = match sample.flags & UNADDRESSED {
        0 => "",
        _ => "; the kernel still asks for the next hop, so the Ethernet addresses are the old ones",
    };
    format!("rule {rule}, {direction}, {moment} translation, on {path}{addressed}")
}

#[cfg(test)]
mod tests {
    use pcap_file::pcapng::{Block, PcapNgReader};
    use rstest::rstest;

    use super::*;

    fn described(device: &str, nanoseconds: u64) -> Described {
        Described {
            time: Duration::from_nanos(nanoseconds),
            rule: "pop3".to_owned(),
            device: device.to_owned(),
        }
    }

    #[rstest]
    #[case(0, "rule pop3, original, before translation, on XDP")]
    #[case(AFTER | REPLY, "rule pop3, reply, after translation, on XDP")]
    #[case(SLOW | AFTER, "rule pop3, original, after translation, on TC")]
    fn comments(#[case] flags: u32, #[case] expected: &str) {
        let sample = Sample {
            flags,
            ..Sample::default()
        };
        assert_eq!(comment(&sample, "pop3"), expected);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut bytes = Vec::new();
        let mut file = File::begin(&mut bytes, 64).unwrap();
        let sample = Sample {
            length: 1500,
            captured: 5,
            ..Sample::default()
        };
        let time = 1_700_000_000_123_456_789;
        for device in ["eth0", "eth1", "eth0"] {
            file.packet(&sample, &described(device, time), b"frame")
                .unwrap();
        }
        file.end(7).unwrap();
        let mut reader = PcapNgReader::new(bytes.as_slice()).unwrap();
        let (mut devices, mut packets, mut lost) = (Vec::new(), Vec::new(), 0);
        while let Some(block) = reader.next_block() {
            match block.unwrap().into_owned() {
                Block::InterfaceDescription(block) => devices.push(block),
                Block::EnhancedPacket(block) => packets.push(block),
                Block::InterfaceStatistics(block) => {
                    assert_eq!(block.options, [InterfaceStatisticsOption::IsbIfDrop(7)]);
                    lost += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((devices.len(), lost), (2, 1));
        assert_eq!(devices[0].snaplen, 64);
        let numbers: Vec<_> = packets.iter().map(|one| one.interface_id).collect();
        assert_eq!(numbers, [0, 1, 0]);
        assert_eq!(packets[0].data, b"frame".as_slice());
        assert_eq!(packets[0].original_len, 1500);
        assert_eq!(packets[0].timestamp, Duration::from_nanos(time));
    }
}
