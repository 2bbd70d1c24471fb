//! The JSON form of a message schema, as published; what it means is decided in `resolve`.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Schema {
    pub(crate) api_key: Option<i16>,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) listeners: Vec<String>,
    pub(crate) name: String,
    pub(crate) valid_versions: String,
    pub(crate) flexible_versions: Option<String>,
    #[serde(default)]
    pub(crate) latest_version_unstable: bool,
    #[serde(default)]
    pub(crate) fields: Vec<Field>,
    #[serde(default)]
    pub(crate) common_structs: Vec<CommonStruct>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CommonStruct {
    pub(crate) name: String,
    pub(crate) fields: Vec<Field>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Field {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) versions: String,
    pub(crate) nullable_versions: Option<String>,
    pub(crate) flexible_versions: Option<String>,
    pub(crate) tag: Option<u32>,
    pub(crate) tagged_versions: Option<String>,
    #[serde(default)]
    pub(crate) ignorable: bool,
    pub(crate) default: Option<serde_json::Value>,
    pub(crate) fields: Option<Vec<Field>>,
}

/// Reads one schema file: JSON with whole-line `//` comments.
pub(crate) fn schema(text: &str) -> anyhow::Result<Schema> {
    let json: String = text.lines().map(|line| if line.trim_start().starts_with("//") { "\n" } else { line }).collect();
    Ok(serde_json::from_str(&json)?)
}
