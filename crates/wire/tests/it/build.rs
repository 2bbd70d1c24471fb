//! Builds valid messages as bytes straight from a schema, without any of the generated code: the two must agree.
//!
//! The bytes are canonical, that is what Kafka would send: a tagged field is there only if it differs from its default.

use crate::schema::{Field, Message};

/// A small generator of random numbers (SplitMix64), so that a seed tells everything.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound as u64) as usize
    }
}

/// The bytes of one valid message.
pub(crate) fn message(message: &Message, version: i16, random: &mut Random) -> Vec<u8> {
    let mut builder = Builder { version, flexible: message.flexible.contains(&version), random };
    let mut out = Vec::new();
    builder.structure(&message.fields, &mut out);
    out
}

struct Builder<'a> {
    version: i16,
    flexible: bool,
    random: &'a mut Random,
}

impl Builder<'_> {
    fn structure(&mut self, fields: &[Field], out: &mut Vec<u8>) {
        let mut tags: Vec<(u32, Vec<u8>)> = Vec::new();
        let version = self.version;
        for field in fields.iter().filter(|field| field.versions.contains(&version)) {
            match field.tag {
                None => self.field(field, out),
                Some(tag) => {
                    let mut content = Vec::new();
                    self.field(field, &mut content);
                    if content != self.default(field) {
                        tags.push((tag, content));
                    }
                }
            }
        }
        if self.flexible {
            tags.sort();
            uvarint(tags.len(), out);
            for (tag, content) in tags {
                uvarint(tag as usize, out);
                uvarint(content.len(), out);
                out.extend(content);
            }
        }
    }

    fn field(&mut self, field: &Field, out: &mut Vec<u8>) {
        let flexible = self.flexible && !field.never_flexible;
        let nullable = field.nullable.contains(&self.version);
        let null = nullable && self.random.below(4) == 0;
        if field.array {
            let count = self.random.below(4);
            length(flexible, (!null).then_some(count), 4, out);
            for _ in 0..if null { 0 } else { count } {
                self.value(field, flexible, out);
            }
        } else if null {
            match field.ty.as_str() {
                "string" => length(flexible, None, 2, out),
                "struct" => out.push(0xff),
                _ => length(flexible, None, 4, out),
            }
        } else {
            if nullable && field.ty == "struct" {
                out.push(1);
            }
            self.value(field, flexible, out);
        }
    }

    fn value(&mut self, field: &Field, flexible: bool, out: &mut Vec<u8>) {
        // Small numbers are as common as large ones, so that defaults occur too.
        let number = if self.random.below(2) == 0 { self.random.bits() } else { self.random.bits() % 5 };
        match field.ty.as_str() {
            "bool" => out.push((number & 1) as u8),
            "i8" => out.push(number as u8),
            "i16" | "u16" => out.extend((number as u16).to_be_bytes()),
            "i32" => out.extend((number as u32).to_be_bytes()),
            "i64" => out.extend(number.to_be_bytes()),
            "f64" => out.extend((number as f64 / 7.0).to_be_bytes()),
            "uuid" => {
                out.extend(number.to_be_bytes());
                out.extend(number.to_be_bytes());
            }
            "string" => {
                let text: String =
                    (0..self.random.below(12)).map(|_| ['a', 'Z', '-', 'ß', '語'][self.random.below(5)]).collect();
                length(flexible, Some(text.len()), 2, out);
                out.extend(text.bytes());
            }
            "bytes" | "records" => {
                let len = if self.random.below(8) == 0 { 200 } else { self.random.below(12) };
                length(flexible, Some(len), 4, out);
                out.extend((0..len).map(|_| self.random.bits() as u8));
            }
            "struct" => self.structure(&field.fields, out),
            other => panic!("{} has unknown type {other}", field.name),
        }
    }

    /// The content a tagged field has when it holds its default.
    fn default(&self, field: &Field) -> Vec<u8> {
        let mut out = Vec::new();
        match (field.default.as_deref(), field.ty.as_str()) {
            (Some("null"), _) => out.push(0),
            (None, _) if field.array => out.push(1),
            (None, "struct") => {
                for field in field.fields.iter().filter(|field| field.versions.contains(&self.version)) {
                    if field.tag.is_none() {
                        out.extend(self.default(field));
                    }
                }
                out.push(0);
            }
            (None, "string" | "bytes" | "records") => out.push(1),
            (None, "uuid") => out.extend([0; 16]),
            (default, ty) => {
                let number = match default {
                    None | Some("false") => 0,
                    Some("true") => 1,
                    Some("i32::MAX") => i64::from(i32::MAX),
                    Some("i64::MAX") => i64::MAX,
                    Some(number) => number.parse().unwrap(),
                };
                let width = match ty {
                    "bool" | "i8" => 1,
                    "i16" | "u16" => 2,
                    "i32" => 4,
                    "i64" => 8,
                    other => panic!("default of {other}"),
                };
                out.extend(&number.to_be_bytes()[8 - width..]);
            }
        }
        out
    }
}

fn uvarint(mut value: usize, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The prefix of a string (two bytes wide) or of anything else (four), or its compact form.
fn length(flexible: bool, len: Option<usize>, width: usize, out: &mut Vec<u8>) {
    if flexible {
        uvarint(len.map_or(0, |len| len + 1), out);
    } else {
        let len = len.map_or(-1, |len| len as i64);
        out.extend(&len.to_be_bytes()[8 - width..]);
    }
}
