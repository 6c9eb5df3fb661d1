//! TCP's maximum segment size, lowered in handshakes.

use rstest::rstest;
use tests::packet::tcp_flags::{ACK, SYN};

use super::bench::{Bench, Hook};
use super::family::Family;
use super::traffic::{CLIENT, Connection, LISTENER, tcp};
use super::translate::RULE;

fn rule(clamp: &str) -> String {
    format!("{}mss-clamp = {clamp}\n", RULE.replace(", \"udp\"", ""))
}

const HIGH: [u8; 2] = 1460_u16.to_be_bytes();
const LOW: [u8; 2] = 1200_u16.to_be_bytes();

/// Both halves of a handshake with these options, and how they arrive.
#[track_caller]
fn clamps(bench: &mut Bench, connection: &Connection, before: &[u8], after: &[u8]) {
    let packet = |flags, options| tcp(flags).with_tcp_options(options);
    let (near, far) = (connection.near.0, connection.far.0);
    let sent = connection.request(packet(SYN, before));
    let expected = connection.forwarded(packet(SYN, after));
    bench.forwards(near, &sent, far, &expected);
    let sent = connection.reply(packet(SYN | ACK, before));
    let expected = connection.returned(packet(SYN | ACK, after));
    bench.forwards(far, &sent, near, &expected);
}

#[rstest]
#[case::alone(&[2, 4, HIGH[0], HIGH[1]], &[2, 4, LOW[0], LOW[1]])]
#[case::odd(&[1, 2, 4, HIGH[0], HIGH[1], 0, 0, 0], &[1, 2, 4, LOW[0], LOW[1], 0, 0, 0])]
#[case::even(&[1, 1, 2, 4, HIGH[0], HIGH[1], 1, 1], &[1, 1, 2, 4, LOW[0], LOW[1], 1, 1])]
#[case::behind_others(
    &[3, 3, 7, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 4, 2, 2, 4, HIGH[0], HIGH[1], 0],
    &[3, 3, 7, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 4, 2, 2, 4, LOW[0], LOW[1], 0]
)]
#[case::last_of_forty(
    &[&[1; 36][..], &[2, 4, HIGH[0], HIGH[1]]].concat(),
    &[&[1; 36][..], &[2, 4, LOW[0], LOW[1]]].concat()
)]
fn it_is_lowered(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[case] before: &[u8],
    #[case] after: &[u8],
) {
    let mut bench = Bench::new((hook, family), &rule("1200"));
    clamps(&mut bench, &Connection::default(), before, after);
}

#[rstest]
#[case::none(&[])]
#[case::other_options(&[3, 3, 7, 1, 4, 2, 1, 1])]
#[case::lower(&[2, 4, 4, 0])]
#[case::equal(&[2, 4, LOW[0], LOW[1]])]
#[case::behind_the_end(&[0, 1, 1, 1, 2, 4, HIGH[0], HIGH[1]])]
#[case::within_another(&[254, 6, 2, 4, HIGH[0], HIGH[1], 1, 1])]
#[case::of_another_length(&[2, 3, HIGH[0], 1])]
#[case::of_no_length(&[8, 0, 2, 4, HIGH[0], HIGH[1], 1, 1])]
#[case::cut(&[1, 1, 2, 4])]
#[case::longer_than_the_options(&[8, 200, 2, 4])]
fn it_stays(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[case] options: &[u8],
) {
    let mut bench = Bench::new((hook, family), &rule("1200"));
    clamps(&mut bench, &Connection::default(), options, options);
}

/// What both devices take, and a smaller route.
#[rstest]
#[case::devices("10.0.0.2:110", None, 1500)]
#[case::route("10.4.0.2:110", Some(254), 1300)]
fn it_fits_the_way(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[case] backend: &str,
    #[case] router: Option<u8>,
    #[case] mtu: u32,
) {
    let (address, _) = backend.split_once(':').expect("ADDR:PORT");
    let rule = rule("\"auto\"").replace("10.0.0.2", address);
    let mut bench = Bench::new((hook, family), &rule);
    let mut connection = Connection::new(CLIENT, LISTENER, CLIENT, backend);
    connection.far.1 = router;
    let fits = |mtu: u32| {
        let [a, b] = u16::try_from(mtu - family.header() - 20)
            .expect("a size")
            .to_be_bytes();
        [2, 4, a, b]
    };
    let packet = |flags, options: &[u8]| tcp(flags).with_tcp_options(options);
    let huge = [2, 4, 0xff, 0xff];
    let (near, far) = (connection.near.0, connection.far.0);
    let sent = connection.request(packet(SYN, &huge));
    let expected = connection.forwarded(packet(SYN, &fits(mtu)));
    bench.forwards(near, &sent, far, &expected);
    // The way back knows of no route, but of both devices.
    let sent = connection.reply(packet(SYN | ACK, &huge));
    let expected = connection.returned(packet(SYN | ACK, &fits(1500)));
    bench.forwards(far, &sent, near, &expected);
}

/// Only handshakes name it, and a rule without the option changes nothing.
#[rstest]
fn elsewhere_it_is_no_business_of_ours(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), &rule("1200"));
    let connection = Connection::default();
    let options = [2, 4, HIGH[0], HIGH[1]];
    let low = [2, 4, LOW[0], LOW[1]];
    clamps(&mut bench, &connection, &options, &low);
    connection.send(&mut bench, &tcp(ACK).with_tcp_options(&options));
    connection.answer(&mut bench, &tcp(ACK).with_tcp_options(&options));
    let mut bench = Bench::new((hook, family), RULE);
    clamps(&mut bench, &connection, &options, &options);
}
