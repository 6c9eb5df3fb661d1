//! As whom a rule sends: `source`.

use std::net::{IpAddr, Ipv6Addr};

use super::address;
use super::model::Source;
use super::span::Located;
use super::suggest::did_you_mean;
use super::token::Token;
use super::tree::{Reader, Value};

/// Each address has 64,511 ports towards each server, so more addresses than this are of no use to any table of flows,
/// and a pool of them is a slip. IPv4 is not limited, since what anybody has to spare of it is.
const MOST_V6: u128 = 1 << 16;

/// `"preserve" | "masquerade" | ADDR | ADDR-ADDR`.
pub(super) fn forward<'a>(reader: &mut Reader<'a>, value: Value<'a>) -> Option<Located<Source>> {
    let words = [
        ("preserve", Source::Preserve),
        ("masquerade", Source::Masquerade),
    ];
    let expected = "`preserve`, `masquerade`, an address or two as `ADDR-ADDR`";
    read(reader, value, &words, expected)
}

/// `"masquerade" | ADDR | ADDR-ADDR`.
pub(super) fn masquerade<'a>(reader: &mut Reader<'a>, value: Value<'a>) -> Option<Located<Source>> {
    let words = [("masquerade", Source::Masquerade)];
    let expected = "`masquerade`, an address or two as `ADDR-ADDR`";
    read(reader, value, &words, expected)
}

fn read<'a>(
    reader: &mut Reader<'a>,
    value: Value<'a>,
    words: &[(&'static str, Source)],
    expected: &str,
) -> Option<Located<Source>> {
    let token = value.token(reader, &format!("a string: {expected}"))?;
    let is_word = token.text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !token.text.contains([':', '.']);
    let known = words.iter().find(|(word, _)| *word == token.text);
    let source = match known {
        Some((_, source)) => *source,
        None if is_word => {
            let message = format!("bad source {}: expected {expected}", token.quoted());
            let help = meant(token.text, words);
            reader.push(token.error(message).maybe_help(help));
            return None;
        }
        None => pool(reader, token)?,
    };
    Some(Located {
        value: source,
        span: token.span(),
    })
}

/// What to do instead of writing this word.
fn meant(text: &str, words: &[(&'static str, Source)]) -> Option<String> {
    let known = || words.iter().map(|(word, _)| *word);
    let alias = match text {
        "snat" | "nat" | "auto" => Some("masquerade"),
        "client" | "keep" | "none" => Some("preserve"),
        _ => None,
    };
    if known().all(|word| word != "preserve") && (text == "preserve" || alias == Some("preserve")) {
        let why =
            "with the clients' own addresses there is nothing to translate, and the rule can go";
        return Some(why.to_owned());
    }
    did_you_mean(alias.unwrap_or(text), known())
}

fn pool(reader: &mut Reader, token: Token) -> Option<Source> {
    let (first, last) = token.split_once('-').unwrap_or((token, token));
    let low = reader.keep(address::host(first));
    let high = if first.text == last.text {
        low
    } else {
        reader.keep(address::host(last))
    };
    let (low, high) = (low?, high?);
    let text = token.quoted();
    let (message, help) = match (low, high) {
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            let message = format!("source pool {text} mixes IPv4 and IPv6: expected one family");
            (message, None)
        }
        _ if low > high => {
            let message = format!("reversed source pool {text}: expected the lower address first");
            (message, Some(format!("did you mean `{high}-{low}`?")))
        }
        (IpAddr::V6(low), IpAddr::V6(high)) if high.to_bits() - low.to_bits() >= MOST_V6 => {
            let message = format!(
                "source pool {text} is too large: expected at most {MOST_V6} IPv6 addresses"
            );
            let last = low.to_bits() + (MOST_V6 - 1);
            let help = format!("did you mean `{low}-{}`?", Ipv6Addr::from_bits(last));
            (message, Some(help))
        }
        _ => {
            return Some(Source::Pool {
                first: low,
                last: high,
            });
        }
    };
    reader.push(token.error(message).maybe_help(help));
    None
}
