//! Reads values of configuration keys as Kafka reads them, and says why one is refused.

use thiserror::Error;

use super::key::{Key, Kind, Valid};

/// A value as its key's type has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a boolean key.
    Boolean(bool),
    /// Of an integer key of any width.
    Integer(i64),
    /// Of a double key.
    Double(f64),
    /// Of a string, class or password key.
    Text(String),
    /// Of a list key.
    List(Vec<String>),
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// No such key.
    #[error("Unknown {resource} config name: {name}")]
    UnknownKey {
        /// What is configured.
        resource: &'static str,
        /// The name given.
        name: String,
    },
    /// The value is not one of the key's.
    #[error("Invalid value {value} for configuration {name}: {reason}")]
    InvalidValue {
        /// The key.
        name: String,
        /// The value given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two values exclude each other.
    #[error("conflict topic config setting {smaller} ({smaller_value}) > {larger} ({larger_value})")]
    Conflict {
        /// The key whose value must not be larger.
        smaller: &'static str,
        /// Its value.
        smaller_value: i64,
        /// The key whose value must not be smaller.
        larger: &'static str,
        /// Its value.
        larger_value: i64,
    },
    /// A group's value lies outside of what the broker allows.
    #[error("{name} must be {relation} {bound}")]
    OutsideBound {
        /// The group's key.
        name: &'static str,
        /// How it has to stand to the bound.
        relation: &'static str,
        /// The other key.
        bound: &'static str,
    },
    /// Tiered storage is not there.
    #[error(
        "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."
    )]
    TieredStorageDisabled,
    /// The pattern of a client metrics subscription cannot be understood.
    #[error("Illegal client matching pattern: {pattern}")]
    ClientPattern {
        /// The pattern.
        pattern: String,
    },
    /// An interval of client metrics outside of its bounds.
    #[error("Invalid value {value} for interval.ms, interval must be between 100 and 3600000 (1 hour)")]
    MetricsInterval {
        /// The interval given.
        value: i64,
    },
    /// A client metrics key that does not exist.
    #[error("Unknown client metrics configuration: {name}")]
    UnknownClientMetricsKey {
        /// The name given.
        name: String,
    },
}

impl Key {
    /// Reads and checks a value.
    ///
    /// # Errors
    /// It is not of the key's type or outside of its valid values.
    pub fn parse(&self, text: &str) -> Result<Value, ConfigError> {
        let refuse = |shown: &str, reason: String| ConfigError::InvalidValue {
            name: self.name.to_owned(),
            value: shown.to_owned(),
            reason,
        };
        let trimmed = text.trim();
        let value = match self.kind {
            Kind::Boolean if trimmed.eq_ignore_ascii_case("true") => Value::Boolean(true),
            Kind::Boolean if trimmed.eq_ignore_ascii_case("false") => Value::Boolean(false),
            Kind::Boolean => return Err(refuse(text, "Expected value to be either true or false".to_owned())),
            Kind::Int | Kind::Short | Kind::Long => match integer(self.kind, trimmed) {
                Some(number) => Value::Integer(number),
                None => return Err(refuse(text, format!("Not a number of type {}", self.kind.name()))),
            },
            Kind::Double => match trimmed.parse::<f64>() {
                Ok(number) if !number.is_nan() => Value::Double(number),
                _ => return Err(refuse(text, "Not a number of type DOUBLE".to_owned())),
            },
            Kind::String | Kind::Class | Kind::Password => Value::Text(trimmed.to_owned()),
            Kind::List => Value::List(split(trimmed)),
        };
        match self.check(&value) {
            Ok(()) => Ok(value),
            Err((shown, reason)) => Err(refuse(&shown, reason)),
        }
    }

    fn check(&self, value: &Value) -> Result<(), (String, String)> {
        match (self.valid, value) {
            (Valid::Range(least, most), Value::Integer(number)) => {
                if *number < least {
                    return Err((number.to_string(), format!("Value must be at least {least}")));
                }
                match most {
                    Some(most) if *number > most => {
                        Err((number.to_string(), format!("Value must be no more than {most}")))
                    }
                    _ => Ok(()),
                }
            }
            (Valid::RangeOr(least, most, other), Value::Integer(number)) => {
                if (least..=most).contains(number) || *number == other {
                    return Ok(());
                }
                let reason = format!("Value must be between {least} and {most} or equal to {other}");
                Err((number.to_string(), reason))
            }
            (Valid::Fraction(least, most), Value::Double(number)) => {
                if *number < least {
                    Err((java_double(*number), format!("Value must be at least {least}")))
                } else if *number > most {
                    Err((java_double(*number), format!("Value must be no more than {most}")))
                } else {
                    Ok(())
                }
            }
            (Valid::OneOf(words), Value::Text(text)) => one_of(words, text),
            (Valid::OneOf(words), Value::List(texts)) => texts.iter().try_for_each(|text| one_of(words, text)),
            (Valid::OneOfAnyCase(words), Value::Text(text)) => {
                if words.iter().any(|word| word.eq_ignore_ascii_case(text)) {
                    return Ok(());
                }
                let reason = format!("String must be one of (case insensitive): {}", words.join(", "));
                Err((text.clone(), reason))
            }
            (Valid::ThrottledReplicas, Value::List(texts)) => {
                let all = matches!(texts.as_slice(), [one] if one == "*");
                if all || texts.iter().all(|text| is_throttled_replica(text)) {
                    return Ok(());
                }
                let reason = format!(
                    "{} must be the literal '*' or a list of replicas in the following format: \
                     [partitionId]:[brokerId],[partitionId]:[brokerId],...",
                    self.name
                );
                Err((format!("[{}]", texts.join(", ")), reason))
            }
            (Valid::OffsetReset, Value::Text(text)) => {
                if is_offset_reset(text) {
                    return Ok(());
                }
                let reason = format!(
                    "Invalid value `{text}` for configuration {}. The value must be either 'earliest', 'latest' or of \
                     the format 'by_duration:<PnDTnHnMn.nS>'.",
                    self.name
                );
                Err((text.clone(), reason))
            }
            _ => Ok(()),
        }
    }
}

impl Value {
    /// The value as DescribeConfigs shows it.
    pub fn text(&self) -> String {
        match self {
            Self::Boolean(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Double(value) => java_double(*value),
            Self::Text(value) => value.clone(),
            Self::List(values) => values.join(","),
        }
    }
}

fn integer(kind: Kind, text: &str) -> Option<i64> {
    match kind {
        Kind::Int => text.parse::<i32>().ok().map(i64::from),
        Kind::Short => text.parse::<i16>().ok().map(i64::from),
        _ => text.parse::<i64>().ok(),
    }
}

/// The parts of a list; an empty text is an empty list.
pub(super) fn split(text: &str) -> Vec<String> {
    if text.is_empty() { Vec::new() } else { text.split(',').map(|part| part.trim().to_owned()).collect() }
}

fn one_of(words: &[&str], text: &str) -> Result<(), (String, String)> {
    if words.contains(&text) {
        return Ok(());
    }
    Err((text.to_owned(), format!("String must be one of: {}", words.join(", "))))
}

fn is_throttled_replica(text: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once(':').is_some_and(|(partition, broker)| is_number(partition) && is_number(broker))
}

fn is_offset_reset(text: &str) -> bool {
    match text.strip_prefix("by_duration:") {
        Some(duration) => is_duration(duration),
        None => matches!(text, "earliest" | "latest"),
    }
}

/// `PnDTnHnMn.nS` with at least one of its parts, none negative.
fn is_duration(text: &str) -> bool {
    let Some(text) = text.strip_prefix('P') else {
        return false;
    };
    let (days, time) = match text.split_once('T') {
        Some((_, "")) => return false,
        Some((days, time)) => (days, time),
        None => (text, ""),
    };
    let mut parts = 0;
    let mut take = |text: &mut &str, unit: char, fraction: bool| {
        let Some((number, rest)) = text.split_once(unit) else {
            return true;
        };
        *text = rest;
        parts += 1;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match number.split_once('.') {
            Some((whole, part)) => fraction && digits(whole) && digits(part),
            None => digits(number),
        }
    };
    let (mut days, mut time) = (days, time);
    let valid = take(&mut days, 'D', false)
        && take(&mut time, 'H', false)
        && take(&mut time, 'M', false)
        && take(&mut time, 'S', true);
    valid && days.is_empty() && time.is_empty() && parts > 0
}

/// A double as Java prints it, which is what Kafka's tools compare with.
fn java_double(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 || (1e-3..1e7).contains(&magnitude) {
        let text = value.to_string();
        if text.contains('.') { text } else { format!("{text}.0") }
    } else {
        let text = format!("{value:E}");
        match text.split_once('E') {
            Some((mantissa, exponent)) if !mantissa.contains('.') => format!("{mantissa}.0E{exponent}"),
            _ => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::key::key;
    use super::*;

    fn check(key: &Key, texts: &[&str], expected: Expect) {
        let mut out = String::new();
        for text in texts {
            match key.parse(text) {
                Ok(value) => out += &format!("{text:?} = {}\n", value.text()),
                Err(error) => out += &format!("{text:?}: {error}\n"),
            }
        }
        expected.assert_eq(&out);
    }

    #[test]
    fn integers_keep_to_their_width_and_range() {
        check(
            &key("k", Kind::Int, "1", "").between(-5, 9),
            &[" 7 ", "+7", "-5", "-6", "10", "2147483648", "1.0", "", "x"],
            expect![[r#"
                " 7 " = 7
                "+7" = 7
                "-5" = -5
                "-6": Invalid value -6 for configuration k: Value must be at least -5
                "10": Invalid value 10 for configuration k: Value must be no more than 9
                "2147483648": Invalid value 2147483648 for configuration k: Not a number of type INT
                "1.0": Invalid value 1.0 for configuration k: Not a number of type INT
                "": Invalid value  for configuration k: Not a number of type INT
                "x": Invalid value x for configuration k: Not a number of type INT
            "#]],
        );
        check(
            &key("k", Kind::Int, "1", "").valid(Valid::RangeOr(1, 9, -1)),
            &["-1", "0", "9"],
            expect![[r#"
                "-1" = -1
                "0": Invalid value 0 for configuration k: Value must be between 1 and 9 or equal to -1
                "9" = 9
            "#]],
        );
        check(
            &key("k", Kind::Short, "1", ""),
            &["32767", "32768"],
            expect![[r#"
                "32767" = 32767
                "32768": Invalid value 32768 for configuration k: Not a number of type SHORT
            "#]],
        );
    }

    #[test]
    fn booleans_doubles_and_words_are_read_as_kafka_does() {
        check(
            &key("k", Kind::Boolean, "false", ""),
            &["TRUE", " false", "maybe"],
            expect![[r#"
                "TRUE" = true
                " false" = false
                "maybe": Invalid value maybe for configuration k: Expected value to be either true or false
            "#]],
        );
        check(
            &key("k", Kind::Double, "0.5", "").valid(Valid::Fraction(0.0, 1.0)),
            &["0.25", "1", "1.5", "-0.1", "NaN", "x"],
            expect![[r#"
                "0.25" = 0.25
                "1" = 1.0
                "1.5": Invalid value 1.5 for configuration k: Value must be no more than 1
                "-0.1": Invalid value -0.1 for configuration k: Value must be at least 0
                "NaN": Invalid value NaN for configuration k: Not a number of type DOUBLE
                "x": Invalid value x for configuration k: Not a number of type DOUBLE
            "#]],
        );
        check(
            &key("k", Kind::List, "", "").valid(Valid::OneOf(&["compact", "delete"])),
            &["", " compact , delete", "delete,delete", "none"],
            expect![[r#"
                "" = 
                " compact , delete" = compact,delete
                "delete,delete" = delete,delete
                "none": Invalid value none for configuration k: String must be one of: compact, delete
            "#]],
        );
        check(
            &key("k", Kind::List, "", "").valid(Valid::ThrottledReplicas),
            &["*", "0:1,1:2", "x"],
            expect![[r#"
                "*" = *
                "0:1,1:2" = 0:1,1:2
                "x": Invalid value [x] for configuration k: k must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...
            "#]],
        );
    }

    #[test]
    fn a_duration_has_at_least_one_part_in_order() {
        for valid in ["P1D", "PT1H", "P1DT2H3M4.5S", "PT0.5S"] {
            assert!(is_duration(valid), "{valid}");
        }
        for invalid in ["", "P", "PT", "1D", "PT1D", "PT1M1H", "P1.5D", "PT-1S", "P1DT"] {
            assert!(!is_duration(invalid), "{invalid}");
        }
    }

    #[test]
    fn doubles_print_as_java_prints_them() {
        for (value, text) in
            [(0.5, "0.5"), (1.0, "1.0"), (1e7, "1.0E7"), (0.0001, "1.0E-4"), (f64::MAX, "1.7976931348623157E308")]
        {
            assert_eq!(java_double(value), text);
        }
    }
}
