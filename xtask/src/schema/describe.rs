//! The flat description of the schemas that tests read: one line for each message and each field, structures expanded
//! where they are used.

use std::fmt::Write as _;

use super::resolve::{Default, Message, Struct, Type, Versions};

pub(crate) fn messages(messages: &[Message]) -> String {
    let mut out = format!(
        "# Schemas of Apache Kafka {} in a flat form, written by `cargo run -p xtask -- wire-messages --schemas DIR`.\n\
         # message: kind name api-key versions flexible-versions; field: depth name type versions attributes\n",
        super::KAFKA_VERSION
    );
    for message in messages {
        let key = message.api_key.map_or("-".to_owned(), |key| key.to_string());
        let (versions, flexible) = (range(message.versions), range(message.flexible));
        let _ = writeln!(out, "{} {} {key} {versions} {flexible}", message.kind, message.name);
        if let Some(root) = message.structs.first() {
            fields(&mut out, message, root, 1);
        }
    }
    out
}

fn fields(out: &mut String, message: &Message, structure: &Struct, depth: usize) {
    for field in &structure.fields {
        let (ty, inner) = describe(&field.ty);
        let _ = write!(out, "{depth} {} {ty} {}", field.name, range(field.versions));
        if !field.nullable.is_empty() {
            let _ = write!(out, " nullable={}", range(field.nullable));
        }
        if let Some(tag) = field.tag {
            let _ = write!(out, " tag={tag}");
        }
        match &field.default {
            Default::Zero => {}
            Default::Null => out.push_str(" default=null"),
            Default::Literal(literal) => {
                let _ = write!(out, " default={literal}");
            }
        }
        if field.never_flexible {
            out.push_str(" never-flexible");
        }
        out.push('\n');
        let inner = inner.and_then(|name| message.structs.iter().find(|other| other.name == name));
        if let Some(inner) = inner {
            fields(out, message, inner, depth + 1);
        }
    }
}

fn describe(ty: &Type) -> (String, Option<&str>) {
    let name = match ty {
        Type::Bool => "bool",
        Type::I8 => "i8",
        Type::I16 => "i16",
        Type::U16 => "u16",
        Type::I32 => "i32",
        Type::I64 => "i64",
        Type::F64 => "f64",
        Type::Uuid => "uuid",
        Type::String => "string",
        Type::Bytes => "bytes",
        Type::Records => "records",
        Type::Struct(name) => return ("struct".to_owned(), Some(name)),
        Type::Array(element) => {
            let (element, inner) = describe(element);
            return (format!("[]{element}"), inner);
        }
    };
    (name.to_owned(), None)
}

fn range(versions: Versions) -> String {
    if versions.is_empty() { "none".to_owned() } else { format!("{}-{}", versions.first, versions.last) }
}
