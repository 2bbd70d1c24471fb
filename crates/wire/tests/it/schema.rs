//! Reads `testdata/schema.txt`, the flat description of the schemas.

use std::ops::RangeInclusive;

#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) api_key: Option<i16>,
    pub(crate) versions: RangeInclusive<i16>,
    pub(crate) flexible: RangeInclusive<i16>,
    pub(crate) fields: Vec<Field>,
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) array: bool,
    /// Type, or type of the elements of an array.
    pub(crate) ty: String,
    pub(crate) versions: RangeInclusive<i16>,
    pub(crate) nullable: RangeInclusive<i16>,
    pub(crate) tag: Option<u32>,
    pub(crate) default: Option<String>,
    pub(crate) never_flexible: bool,
    /// Fields of the structure this is or holds.
    pub(crate) fields: Vec<Field>,
}

pub(crate) fn all() -> Vec<Message> {
    let mut lines = include_str!("../../testdata/schema.txt").lines().filter(|line| !line.starts_with('#')).peekable();
    let mut messages = Vec::new();
    while let Some(line) = lines.next() {
        let words: Vec<&str> = line.split(' ').collect();
        let [kind, name, api_key, versions, flexible] = words[..] else { panic!("not a message: {line}") };
        messages.push(Message {
            kind: kind.to_owned(),
            name: name.to_owned(),
            api_key: api_key.parse().ok(),
            versions: range(versions),
            flexible: range(flexible),
            fields: fields(&mut lines, 1),
        });
    }
    messages
}

/// Fields at this depth and below, until a line of a lesser depth.
fn fields<'a>(lines: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>, depth: usize) -> Vec<Field> {
    let mut out: Vec<Field> = Vec::new();
    while let Some(line) = lines.peek() {
        let mut words = line.split(' ');
        match words.next().and_then(|word| word.parse::<usize>().ok()) {
            Some(at) if at == depth => {}
            Some(at) if at == depth + 1 => {
                out.last_mut().expect("a field to nest in").fields = fields(lines, depth + 1);
                continue;
            }
            _ => break,
        }
        let name = words.next().unwrap().to_owned();
        let ty = words.next().unwrap();
        let mut field = Field {
            name,
            array: ty.starts_with("[]"),
            ty: ty.trim_start_matches("[]").to_owned(),
            versions: range(words.next().unwrap()),
            nullable: range("none"),
            tag: None,
            default: None,
            never_flexible: false,
            fields: Vec::new(),
        };
        for word in words {
            match word.split_once('=') {
                Some(("nullable", versions)) => field.nullable = range(versions),
                Some(("tag", tag)) => field.tag = Some(tag.parse().unwrap()),
                Some(("default", value)) => field.default = Some(value.to_owned()),
                None if word == "never-flexible" => field.never_flexible = true,
                _ => panic!("unknown attribute {word}"),
            }
        }
        out.push(field);
        lines.next();
    }
    out
}

fn range(text: &str) -> RangeInclusive<i16> {
    match text.split_once('-') {
        Some((first, last)) => first.parse().unwrap()..=last.parse().unwrap(),
        None => RangeInclusive::new(0, -1),
    }
}
