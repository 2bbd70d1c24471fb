//! The page of the documentation that lists every key.

use std::fmt::Write as _;

use super::key::{Dynamic, Key, Valid};
use super::{broker, client_metrics, group, topic};

/// `docs/reference/configs.md`, out of the tables.
pub fn reference_page() -> String {
    let mut page = String::from(
        "# Configuration keys\n\n\
         Made from the broker's own tables by a test; change those and run the test with `UPDATE_EXPECT=1`.\n\n\
         A topic's value wins over what was set for the broker, that over the default of all brokers, that over what\n\
         the node was started with, and that over the key's default.\n",
    );
    section(&mut page, "Topics", "Set with CreateTopics, AlterConfigs or IncrementalAlterConfigs.", topic::KEYS, false);
    let about = "Set at the start (file, environment, flags). *Dynamic* keys can be changed while the broker runs.";
    section(&mut page, "Brokers", about, broker::KEYS, true);
    section(&mut page, "Groups", "Resource type 32; `kafka-configs --entity-type groups`.", group::KEYS, false);
    let about = "Resource type 16; `kafka-configs --entity-type client-metrics`.";
    section(&mut page, "Client metrics", about, client_metrics::KEYS, false);
    page
}

fn section(page: &mut String, title: &str, about: &str, keys: &[Key], of_broker: bool) {
    let _ = write!(page, "\n## {title}\n\n{about}\n\n");
    let (head, line) = if of_broker { (" Dynamic |", "---|") } else { (" Default from |", "---|") };
    let _ = writeln!(page, "| Key | Type | Default | Valid |{head} What it does |");
    let _ = writeln!(page, "|---|---|---|---|{line}---|");
    for key in keys.iter().filter(|key| !key.internal) {
        let default = match key.default {
            None => "none".to_owned(),
            Some("") => "empty".to_owned(),
            Some(text) => format!("`{text}`"),
        };
        let more = if of_broker {
            match key.dynamic {
                Dynamic::No => "no".to_owned(),
                Dynamic::ClusterWide => "yes".to_owned(),
            }
        } else {
            let names: Vec<String> = key.synonyms.iter().map(|synonym| format!("`{}`", synonym.name)).collect();
            names.join(", ")
        };
        let _ = writeln!(
            page,
            "| `{}` | {} | {default} | {} | {more} | {} |",
            key.name,
            key.kind.name().to_lowercase(),
            valid(&key.valid),
            key.doc.replace('|', "\\|"),
        );
    }
}

fn valid(valid: &Valid) -> String {
    match valid {
        Valid::Any => String::new(),
        Valid::Range(least, None) => format!("from {least}"),
        Valid::Range(least, Some(most)) => format!("{least} to {most}"),
        Valid::Fraction(least, most) => format!("{least} to {most}"),
        Valid::RangeOr(least, most, other) => format!("{least} to {most}, or {other}"),
        Valid::OneOf(words) | Valid::OneOfAnyCase(words) => words.join(", "),
        Valid::ThrottledReplicas => "`*` or partition:broker pairs".to_owned(),
        Valid::OffsetReset => "earliest, latest, by_duration:PnDTnHnMn.nS".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::*;

    #[test]
    fn the_page_of_the_documentation_says_what_the_tables_say() {
        expect_file!["../../../../docs/reference/configs.md"].assert_eq(&reference_page());
    }
}
