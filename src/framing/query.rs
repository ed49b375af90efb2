//! Framing in the query of a URL.

use std::fmt;

use super::{Delimiter, Framing, Order};
use crate::status::{Error, Result, Status};
use crate::sys;

/// The keys, as they stand in a URL.
const FRAMING: &str = "framing";
const LENGTH_BYTES: &str = "length_bytes";
const LENGTH_ORDER: &str = "length_order";
const DELIMITER: &str = "delimiter";

/// The values of a query's keys, as they stand in it.
#[derive(Default)]
struct Fields<'a> {
    framing: Option<&'a str>,
    length_bytes: Option<&'a str>,
    length_order: Option<&'a str>,
    delimiter: Option<&'a str>,
}

impl Framing {
    /// Reads the query of a URL, without the question mark. None: it is empty.
    pub fn from_query(query: &str) -> Result<Option<Self>> {
        if query.is_empty() {
            return Ok(None);
        }
        let fields = Fields::read(query)?;
        let Some(framing) = fields.framing else {
            return Err(bad("it does not say framing=raw, lines, length or delimiter"));
        };
        let is_length = framing == "length";
        let is_delimiter = framing == "delimiter";
        let strangers = [
            (LENGTH_BYTES, fields.length_bytes.is_some() && !is_length, "length"),
            (LENGTH_ORDER, fields.length_order.is_some() && !is_length, "length"),
            (DELIMITER, fields.delimiter.is_some() && !is_delimiter, "delimiter"),
        ];
        if let Some((key, _, owner)) = strangers.iter().find(|(_, is_stranger, _)| *is_stranger) {
            return Err(bad(format!("{key} belongs to framing={owner}, not to framing={framing}")));
        }
        match framing {
            "raw" => Ok(Self::Raw),
            "lines" => Ok(Self::Lines),
            "length" => fields.length(),
            "delimiter" => fields.delimiter(),
            _ => Err(bad(format!("framing is raw, lines, length or delimiter, not \"{framing}\""))),
        }
        .map(Some)
    }
}

impl<'a> Fields<'a> {
    fn read(query: &'a str) -> Result<Self> {
        let mut fields = Self::default();
        for field in query.split('&') {
            let (key, value) =
                field.split_once('=').ok_or_else(|| bad(format!("\"{field}\" is not of the form key=value")))?;
            let place = match key {
                FRAMING => &mut fields.framing,
                LENGTH_BYTES => &mut fields.length_bytes,
                LENGTH_ORDER => &mut fields.length_order,
                DELIMITER => &mut fields.delimiter,
                _ => return Err(bad(format!("the key \"{key}\" is unknown"))),
            };
            if place.replace(value).is_some() {
                return Err(bad(format!("{key} is there twice")));
            }
        }
        Ok(fields)
    }

    fn length(&self) -> Result<Framing> {
        let bytes = match self.length_bytes {
            Some("1") => 1,
            Some("2") => 2,
            Some("4") | None => 4,
            Some(other) => return Err(bad(format!("{LENGTH_BYTES} is 1, 2 or 4, not \"{other}\""))),
        };
        let order = match self.length_order {
            Some("big") | None => Order::Big,
            Some("little") => Order::Little,
            Some(other) => return Err(bad(format!("{LENGTH_ORDER} is big or little, not \"{other}\""))),
        };
        Framing::length(bytes, order)
    }

    fn delimiter(&self) -> Result<Framing> {
        let text =
            self.delimiter.ok_or_else(|| bad("framing=delimiter needs a delimiter, such as delimiter=%0D%0A"))?;
        // What is wrong with the bytes is wrong with the URL here.
        Framing::delimiter(&decode(text)?).map_err(|error| bad(error.detail))
    }
}

/// Takes the percent-encoding off.
fn decode(text: &str) -> Result<Vec<u8>> {
    let mut decoded = Vec::new();
    sys::reserve(&mut decoded, text.len())?;
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        decoded.push(match byte {
            b'%' => match rest.split_first_chunk().and_then(|([high, low], behind)| {
                rest = behind;
                Some(digit(*high)? << 4 | digit(*low)?)
            }) {
                Some(byte) => byte,
                None => return Err(bad(format!("in \"{text}\" a % is not followed by two hexadecimal digits"))),
            },
            0x21..=0x7e => byte,
            _ => return Err(bad(format!("in {text:?} there is a byte that must be percent-encoded"))),
        });
    }
    Ok(decoded)
}

#[allow(clippy::cast_possible_truncation)] // a digit is less than 16
fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

fn bad(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Status::Url, why)
}

/// The query that [`Framing::from_query`] makes the same framing of. It has no comma, which would end the URL in a list.
impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raw => write!(f, "{FRAMING}=raw"),
            Self::Lines => write!(f, "{FRAMING}=lines"),
            Self::Length { width, order } => {
                let order = match order {
                    Order::Big => "big",
                    Order::Little => "little",
                };
                write!(f, "{FRAMING}=length&{LENGTH_BYTES}={}&{LENGTH_ORDER}={order}", width.bytes())
            }
            Self::Delimiter(delimiter) => {
                write!(f, "{FRAMING}=delimiter&{DELIMITER}=")?;
                encode(delimiter, f)
            }
        }
    }
}

fn encode(delimiter: &Delimiter, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    delimiter.bytes().iter().try_for_each(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => write!(f, "{}", char::from(*byte)),
        _ => write!(f, "%{byte:02X}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reads(query: &str, framing: Result<Framing>, canonical: &str) {
        let framing = framing.unwrap();
        assert_eq!(framing.to_string(), canonical);
        assert_eq!(Framing::from_query(query).unwrap(), Some(framing));
    }

    #[test]
    fn queries_are_read() {
        assert!(Framing::from_query("").unwrap().is_none());
        reads("framing=raw", Ok(Framing::Raw), "framing=raw");
        reads("framing=lines", Ok(Framing::Lines), "framing=lines");
        let four = "framing=length&length_bytes=4&length_order=big";
        reads("framing=length", Framing::length(0, Order::Big), four);
        reads("length_bytes=4&framing=length", Framing::length(4, Order::Big), four);
        let two = "framing=length&length_bytes=2&length_order=little";
        reads("length_order=little&length_bytes=2&framing=length", Framing::length(2, Order::Little), two);
        let delimiter = "framing=delimiter&delimiter=";
        for (text, bytes, canonical) in [
            ("%0D%0a", &b"\r\n"[..], "%0D%0A"),
            ("a=b+c", b"a=b+c", "a%3Db%2Bc"),
            ("%2C%25%ff%00~", b",%\xff\0~", "%2C%25%FF%00~"),
        ] {
            reads(&format!("{delimiter}{text}"), Framing::delimiter(bytes), &format!("{delimiter}{canonical}"));
        }
    }

    #[test]
    fn bad_queries_are_refused_with_the_reason() {
        let long = format!("framing=delimiter&delimiter={}", "x".repeat(65));
        for (query, reason) in [
            ("framing", "not of the form key=value"),
            ("framing=", "raw, lines, length or delimiter"),
            ("framing=Lines", "not \"Lines\""),
            ("framing=lines&", "not of the form key=value"),
            ("framing=lines&x=1", "the key \"x\" is unknown"),
            ("framing=lines&framing=lines", "framing is there twice"),
            ("framing=length&length_bytes=2&length_bytes=2", "length_bytes is there twice"),
            ("length_bytes=2", "it does not say framing="),
            ("framing=lines&length_bytes=2", "length_bytes belongs to framing=length"),
            ("framing=delimiter&delimiter=a&length_order=big", "length_order belongs to framing=length"),
            ("framing=length&delimiter=a", "delimiter belongs to framing=delimiter"),
            ("framing=length&length_bytes=3", "1, 2 or 4, not \"3\""),
            ("framing=length&length_bytes=+2", "1, 2 or 4, not \"+2\""),
            ("framing=length&length_order=", "big or little, not \"\""),
            ("framing=delimiter", "needs a delimiter"),
            ("framing=delimiter&delimiter=", "the delimiter is empty"),
            ("framing=delimiter&delimiter=%", "a % is not followed"),
            ("framing=delimiter&delimiter=a%2", "a % is not followed"),
            ("framing=delimiter&delimiter=%+2", "a % is not followed"),
            ("framing=delimiter&delimiter=a b", "must be percent-encoded"),
            ("framing=delimiter&delimiter=é", "must be percent-encoded"),
            (&long, "65 bytes is too long: at most 64"),
        ] {
            let error = Framing::from_query(query).unwrap_err();
            assert_eq!(error.status, Status::Url, "{query}");
            assert!(error.detail.contains(reason), "{query}: {error}");
        }
    }
}
