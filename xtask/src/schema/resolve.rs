//! From published schemas to what the emitters need: version ranges cut to what is valid, types, defaults, Rust names.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::parse::{self, Schema};

/// Inclusive range of versions; empty if the first is above the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) first: i16,
    pub(crate) last: i16,
}

impl Versions {
    const NONE: Self = Self { first: 0, last: -1 };

    fn parse(text: &str) -> anyhow::Result<Self> {
        if text == "none" {
            return Ok(Self::NONE);
        }
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (first, last.parse()?),
            None => match text.strip_suffix('+') {
                Some(first) => (first, i16::MAX),
                None => (text, text.parse()?),
            },
        };
        Ok(Self { first: first.parse()?, last })
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self { first: self.first.max(other.first), last: self.last.min(other.last) }
    }

    pub(crate) fn is_empty(self) -> bool {
        self.first > self.last
    }

    pub(crate) fn covers(self, other: Self) -> bool {
        self.and(other) == other
    }
}

#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) name: String,
    pub(crate) module: String,
    pub(crate) kind: String,
    pub(crate) api_key: Option<i16>,
    pub(crate) versions: Versions,
    pub(crate) flexible: Versions,
    pub(crate) unstable: bool,
    /// Structures in the order they are first used, the message itself first.
    pub(crate) structs: Vec<Struct>,
}

#[derive(Debug)]
pub(crate) struct Struct {
    pub(crate) name: String,
    /// Versions in which the structure can occur.
    pub(crate) versions: Versions,
    pub(crate) fields: Vec<Field>,
}

#[derive(Debug)]
pub(crate) struct Field {
    /// Name in errors.
    pub(crate) name: String,
    /// Name as a Rust identifier.
    pub(crate) ident: String,
    pub(crate) ty: Type,
    pub(crate) versions: Versions,
    pub(crate) nullable: Versions,
    pub(crate) tag: Option<u32>,
    pub(crate) ignorable: bool,
    pub(crate) default: Default,
    /// Whether the field keeps the old length prefix in flexible versions too.
    pub(crate) never_flexible: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    Bool,
    I8,
    I16,
    U16,
    I32,
    I64,
    F64,
    Uuid,
    String,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Type>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Default {
    /// Zero, empty or a structure of defaults.
    Zero,
    Null,
    /// A literal of Rust, for integers and booleans.
    Literal(String),
}

impl Field {
    /// Whether the Rust field is an `Option`.
    pub(crate) fn optional(&self) -> bool {
        !self.nullable.is_empty() || self.ty == Type::Records
    }
}

impl Type {
    fn parse(text: &str) -> anyhow::Result<Self> {
        if let Some(element) = text.strip_prefix("[]") {
            return Ok(Self::Array(Box::new(Self::parse(element)?)));
        }
        Ok(match text {
            "bool" => Self::Bool,
            "int8" => Self::I8,
            "int16" => Self::I16,
            "uint16" => Self::U16,
            "int32" => Self::I32,
            "int64" => Self::I64,
            "float64" => Self::F64,
            "uuid" => Self::Uuid,
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "records" => Self::Records,
            name if name.starts_with(|c: char| c.is_ascii_uppercase()) => Self::Struct(name.to_owned()),
            _ => bail!("unknown type {text}"),
        })
    }

    /// Name of the structure this is or holds.
    fn structure(&self) -> Option<&str> {
        match self {
            Self::Struct(name) => Some(name),
            Self::Array(element) => element.structure(),
            _ => None,
        }
    }
}

pub(crate) fn message(schema: &Schema) -> anyhow::Result<Message> {
    let versions = Versions::parse(&schema.valid_versions)?;
    let flexible = Versions::parse(schema.flexible_versions.as_deref().context("no flexible versions")?)?;
    let flexible = flexible.and(versions);
    ensure!(flexible.is_empty() || flexible.last == versions.last, "flexible versions do not last");
    let mut resolver = Resolver { schema, structs: Vec::new(), path: Vec::new() };
    resolver.structure(&schema.name, &schema.fields, versions)?;
    Ok(Message {
        name: schema.name.clone(),
        module: snake_case(&schema.name),
        kind: schema.kind.clone(),
        api_key: schema.api_key,
        versions,
        flexible,
        unstable: schema.latest_version_unstable,
        structs: resolver.structs,
    })
}

struct Resolver<'a> {
    schema: &'a Schema,
    structs: Vec<Struct>,
    /// Structures being resolved, outermost first.
    path: Vec<String>,
}

impl Resolver<'_> {
    fn structure(&mut self, name: &str, fields: &[parse::Field], versions: Versions) -> anyhow::Result<()> {
        ensure!(!self.path.iter().any(|outer| outer == name), "{name} is recursive: nesting would be unbounded");
        ensure!(!self.structs.iter().any(|other| other.name == name), "{name} is defined twice");
        let index = self.structs.len();
        self.structs.push(Struct { name: name.to_owned(), versions, fields: Vec::new() });
        self.path.push(name.to_owned());
        let mut resolved = Vec::new();
        for field in fields {
            if let Some(field) = self.field(field, versions).with_context(|| format!("in field {}", field.name))? {
                resolved.push(field);
            }
        }
        let tags: Vec<u32> = resolved.iter().filter_map(|field| field.tag).collect();
        ensure!(tags.iter().collect::<BTreeSet<_>>().len() == tags.len(), "{name} uses a tag twice");
        self.path.pop();
        self.structs[index].fields = resolved;
        Ok(())
    }

    fn field(&mut self, field: &parse::Field, within: Versions) -> anyhow::Result<Option<Field>> {
        let versions = Versions::parse(&field.versions)?.and(within);
        if versions.is_empty() {
            return Ok(None);
        }
        let nullable = Versions::parse(field.nullable_versions.as_deref().unwrap_or("none"))?.and(versions);
        if field.tag.is_some() {
            let tagged = Versions::parse(field.tagged_versions.as_deref().unwrap_or("none"))?.and(within);
            ensure!(tagged == versions, "tagged in a part of its versions only");
            ensure!(nullable.is_empty() || nullable == versions, "nullable in a part of its tagged versions only");
        }
        let never_flexible = match field.flexible_versions.as_deref() {
            None => false,
            Some("none") => true,
            Some(other) => bail!("flexible versions {other} of a field are not understood"),
        };
        let ty = Type::parse(&field.kind)?;
        if let Some(name) = ty.structure() {
            match &field.fields {
                Some(fields) => self.structure(name, fields, versions)?,
                // A common structure is resolved at its first use, with all versions of the message.
                None if self.structs.iter().any(|other| other.name == name) => {
                    ensure!(!self.path.iter().any(|outer| outer == name), "{name} is recursive");
                }
                None => {
                    let common = self.schema.common_structs.iter().find(|common| common.name == name);
                    let common = common.with_context(|| format!("no structure {name}"))?;
                    let valid = Versions::parse(&self.schema.valid_versions)?;
                    self.structure(name, &common.fields, valid)?;
                }
            }
        }
        if matches!(ty, Type::Struct(_)) {
            ensure!(nullable.is_empty() || nullable == versions, "nullable in a part of its versions only");
        }
        let name = snake_case(&field.name);
        let ident = if matches!(name.as_str(), "match" | "type") { format!("r#{name}") } else { name.clone() };
        let default = default(&ty, field.default.as_ref())?;
        ensure!(
            default != Default::Null || !nullable.is_empty() || ty == Type::Records,
            "null is the default of a field that is never null"
        );
        let (tag, ignorable) = (field.tag, field.ignorable);
        Ok(Some(Field { name, ident, ty, versions, nullable, tag, ignorable, default, never_flexible }))
    }
}

fn default(ty: &Type, value: Option<&Value>) -> anyhow::Result<Default> {
    let text = match value {
        None if *ty == Type::Records => return Ok(Default::Null),
        None => return Ok(Default::Zero),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    Ok(match ty {
        _ if text == "null" => Default::Null,
        Type::Bool => match text.parse()? {
            true => Default::Literal(text),
            false => Default::Zero,
        },
        Type::I8 | Type::I16 | Type::U16 | Type::I32 | Type::I64 => {
            let number = match text.strip_prefix("0x") {
                Some(hex) => i64::from_str_radix(hex, 16)?,
                None => text.parse()?,
            };
            if number == 0 { Default::Zero } else { Default::Literal(literal(ty, number)) }
        }
        Type::String if text.is_empty() => Default::Zero,
        _ => bail!("default {text} of {ty:?} is not understood"),
    })
}

fn literal(ty: &Type, number: i64) -> String {
    match (ty, number) {
        (Type::I32, n) if n == i64::from(i32::MAX) => "i32::MAX".to_owned(),
        (Type::I32, n) if n == i64::from(i32::MIN) => "i32::MIN".to_owned(),
        (Type::I64, i64::MAX) => "i64::MAX".to_owned(),
        (Type::I64, i64::MIN) => "i64::MIN".to_owned(),
        _ => number.to_string(),
    }
}

/// `MaxWaitMs` and `maxWaitMs` become `max_wait_ms`.
pub(crate) fn snake_case(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut snake = String::new();
    for (i, &c) in chars.iter().enumerate() {
        if c.is_ascii_uppercase() && i > 0 {
            let after_lower = !chars[i - 1].is_ascii_uppercase();
            let before_lower = chars.get(i + 1).is_some_and(char::is_ascii_lowercase);
            if after_lower || before_lower {
                snake.push('_');
            }
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_snake_case() {
        for (name, snake) in [
            ("MaxWaitMs", "max_wait_ms"),
            ("timeoutMs", "timeout_ms"),
            ("TopicIDs", "topic_i_ds"),
            ("KRaftVersion", "k_raft_version"),
            ("Isr", "isr"),
        ] {
            assert_eq!(snake_case(name), snake);
        }
    }

    #[test]
    fn versions_are_cut_to_the_valid_ones() {
        let valid = Versions { first: 4, last: 18 };
        let cut = |text: &str| Versions::parse(text).unwrap().and(valid);
        assert_eq!(cut("0+"), valid);
        assert_eq!(cut("0-12"), Versions { first: 4, last: 12 });
        assert_eq!(cut("7"), Versions { first: 7, last: 7 });
        assert!(cut("0-3").is_empty());
        assert!(cut("none").is_empty());
    }

    #[test]
    fn recursive_structures_are_refused() {
        let schema = parse::schema(
            r#"{"type": "request", "name": "LoopRequest", "validVersions": "0", "flexibleVersions": "0+",
                "fields": [{"name": "Node", "type": "[]Node", "versions": "0+"}],
                "commonStructs": [{"name": "Node", "versions": "0+", "fields": [
                    {"name": "Children", "type": "[]Node", "versions": "0+"}]}]}"#,
        )
        .unwrap();
        let error = format!("{:#}", message(&schema).unwrap_err());
        assert!(error.contains("recursive"), "{error}");
    }
}
