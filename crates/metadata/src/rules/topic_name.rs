//! Which names topics can have, and which are Kafka's own.

use thiserror::Error;

const NAME_LENGTH_MAX: usize = 249;
/// The topic that stands for the controller's journal; it exists in DescribeQuorum only.
pub(super) const CLUSTER_METADATA: &str = "__cluster_metadata";
const INTERNAL: [&str; 3] = ["__consumer_offsets", "__transaction_state", "__share_group_state"];

/// A name that no topic can have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TopicNameError {
    /// No name.
    #[error("Topic name is invalid: the empty string is not allowed")]
    Empty,
    /// A name that means a directory.
    #[error("Topic name is invalid: '{name}' is not allowed")]
    Dots {
        /// The name.
        name: String,
    },
    /// Too long.
    #[error("Topic name is invalid: the length of '{name}' is longer than the max allowed length {NAME_LENGTH_MAX}")]
    TooLong {
        /// The name.
        name: String,
    },
    /// Other characters than allowed.
    #[error(
        "Topic name is invalid: '{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
    )]
    Characters {
        /// The name.
        name: String,
    },
    /// A name that metrics could not tell from another.
    #[error("Topic '{name}' collides with existing topic: {existing}")]
    Collision {
        /// The name.
        name: String,
        /// The other.
        existing: String,
    },
}

/// Whether a topic can have the name.
///
/// # Errors
/// It cannot.
pub fn validate_topic_name(name: &str) -> Result<(), TopicNameError> {
    let owned = || name.to_owned();
    if name.is_empty() {
        Err(TopicNameError::Empty)
    } else if matches!(name, "." | "..") {
        Err(TopicNameError::Dots { name: owned() })
    } else if name.len() > NAME_LENGTH_MAX {
        Err(TopicNameError::TooLong { name: owned() })
    } else if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
        Ok(())
    } else {
        Err(TopicNameError::Characters { name: owned() })
    }
}

/// Whether the topic is one that the broker keeps its own state in.
pub fn is_internal_topic(name: &str) -> bool {
    INTERNAL.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_up_to_249_of_some_characters() {
        for name in ["a", "A-b_c.9", "...", &"x".repeat(249), "__consumer_offsets"] {
            assert_eq!(validate_topic_name(name), Ok(()), "{name}");
        }
        for name in ["", ".", "..", "a b", "a/b", "a\\b", "ä", "a\0", &"x".repeat(250)] {
            assert!(validate_topic_name(name).is_err(), "{name}");
        }
    }
}
