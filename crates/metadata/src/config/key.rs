//! What is known about one configuration key: type, default, bounds, where its default comes from.
//!
//! Definitions are constants; the tables are in `topic`, `broker`, `group` and `client_metrics`. How a value is read is
//! in `value`.

/// The type of a value, as DescribeConfigs names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// 32-bit integer.
    Int,
    /// 16-bit integer.
    Short,
    /// 64-bit integer.
    Long,
    /// Floating point number.
    Double,
    /// Texts separated by commas.
    List,
    /// Name of a Java class; of no use here but as text.
    Class,
    /// A secret; never shown.
    Password,
}

impl Kind {
    /// The code of DescribeConfigs' `config_type`.
    pub const fn code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Short => 4,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
            Self::Class => 8,
            Self::Password => 9,
        }
    }

    /// Kafka's name of the type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Boolean => "BOOLEAN",
            Self::String => "STRING",
            Self::Int => "INT",
            Self::Short => "SHORT",
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::List => "LIST",
            Self::Class => "CLASS",
            Self::Password => "PASSWORD",
        }
    }
}

/// Which values of the type are valid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Valid {
    /// Every one.
    Any,
    /// Integers from the first on, up to the second where there is one, both inclusive.
    Range(i64, Option<i64>),
    /// Numbers from the first to the second, both inclusive.
    Fraction(f64, f64),
    /// Integers of the range, or the one named last.
    RangeOr(i64, i64, i64),
    /// One of these; of a list, each one.
    OneOf(&'static [&'static str]),
    /// One of these, in any case.
    OneOfAnyCase(&'static [&'static str]),
    /// `*`, or `partition:broker` pairs.
    ThrottledReplicas,
    /// `earliest`, `latest` or `by_duration:` with an ISO 8601 duration.
    OffsetReset,
}

/// Whether a broker's key can be changed while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dynamic {
    /// Only by a restart.
    No,
    /// For one broker, or as a default of all.
    ClusterWide,
}

/// How often somebody has a reason to look at the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Importance {
    /// Often.
    High,
    /// Sometimes.
    Medium,
    /// Hardly ever.
    Low,
}

/// A broker key that gives a topic or group key its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synonym {
    /// The broker key.
    pub name: &'static str,
    /// What its value is multiplied with.
    pub factor: i64,
}

/// One configuration key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Key {
    /// Kafka's name, or ours with `chronik.`.
    pub name: &'static str,
    /// Type.
    pub kind: Kind,
    /// Default as text; `None` where there is none.
    pub default: Option<&'static str>,
    /// Valid values.
    pub valid: Valid,
    /// Whether a broker key can be changed while the broker runs; of no meaning for others.
    pub dynamic: Dynamic,
    /// Importance.
    pub importance: Importance,
    /// Broker keys that give the default, the first one set wins. DescribeConfigs names them.
    pub synonyms: &'static [Synonym],
    /// Hidden from lists, still settable.
    pub internal: bool,
    /// What it does.
    pub doc: &'static str,
}

pub(super) const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        default: Some(default),
        valid: Valid::Any,
        dynamic: Dynamic::No,
        importance: Importance::Medium,
        synonyms: &[],
        internal: false,
        doc,
    }
}

impl Key {
    pub(super) const fn without_default(mut self) -> Self {
        self.default = None;
        self
    }

    pub(super) const fn at_least(mut self, least: i64) -> Self {
        self.valid = Valid::Range(least, None);
        self
    }

    pub(super) const fn between(mut self, least: i64, most: i64) -> Self {
        self.valid = Valid::Range(least, Some(most));
        self
    }

    pub(super) const fn valid(mut self, valid: Valid) -> Self {
        self.valid = valid;
        self
    }

    pub(super) const fn synonyms(mut self, synonyms: &'static [Synonym]) -> Self {
        self.synonyms = synonyms;
        self
    }

    pub(super) const fn dynamic(mut self) -> Self {
        self.dynamic = Dynamic::ClusterWide;
        self
    }

    pub(super) const fn high(mut self) -> Self {
        self.importance = Importance::High;
        self
    }

    pub(super) const fn low(mut self) -> Self {
        self.importance = Importance::Low;
        self
    }

    pub(super) const fn internal(mut self) -> Self {
        self.internal = true;
        self
    }

    /// Whether its value is a secret.
    pub const fn sensitive(&self) -> bool {
        matches!(self.kind, Kind::Password)
    }

    /// Whether it cannot be changed while the broker runs.
    pub const fn read_only(&self) -> bool {
        matches!(self.dynamic, Dynamic::No)
    }
}

/// The key of that name in a table sorted by name.
pub(super) fn find(table: &'static [Key], name: &str) -> Option<&'static Key> {
    table.binary_search_by(|key| key.name.cmp(name)).ok().and_then(|at| table.get(at))
}
