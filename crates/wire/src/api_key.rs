//! The APIs a client may call, their version ranges and header versions.
//!
//! The table itself is generated from the schemas (`messages/api_keys.rs`); which versions a broker serves is its own choice.

macro_rules! api_keys {
    ($($name:ident = $code:literal, $min:literal..=$max:literal, flexible $flexible:expr, unstable $unstable:literal;)*) => {
        /// An API of Kafka's protocol that clients may call.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i16)]
        pub enum ApiKey {
            $(#[allow(missing_docs, reason = "Kafka's name of the API")] $name = $code,)*
        }

        impl ApiKey {
            /// All APIs by ascending code.
            pub const ALL: &'static [ApiKey] = &[$(Self::$name,)*];

            /// The API with this code on the wire.
            pub const fn from_i16(code: i16) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Kafka's name of the API.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// Versions that have a schema, both ends inclusive.
            pub const fn valid_versions(self) -> std::ops::RangeInclusive<i16> {
                match self {
                    $(Self::$name => $min..=$max,)*
                }
            }

            /// Whether the last valid version is still in development: Kafka does not advertise it by default.
            pub const fn latest_version_unstable(self) -> bool {
                match self {
                    $(Self::$name => $unstable,)*
                }
            }

            /// First version with compact lengths and tagged fields, if there is one.
            pub const fn flexible_since(self) -> Option<i16> {
                match self {
                    $(Self::$name => $flexible,)*
                }
            }
        }
    };
}

pub(crate) use api_keys;

pub use crate::messages::api_keys::ApiKey;

impl ApiKey {
    /// The code on the wire.
    pub const fn as_i16(self) -> i16 {
        self as i16
    }

    /// Whether this version has compact lengths and tagged fields. Also answers for versions beyond the valid ones, where
    /// a header may still have to be read.
    pub const fn is_flexible(self, api_version: i16) -> bool {
        match self.flexible_since() {
            Some(since) => api_version >= since,
            None => false,
        }
    }

    /// Version of the header before a request of this API and version.
    pub const fn request_header_version(self, api_version: i16) -> i16 {
        if self.is_flexible(api_version) { 2 } else { 1 }
    }

    /// Version of the header before a response of this API and version.
    ///
    /// Always 0 for `ApiVersions`: a client reads that answer before it knows what the broker speaks.
    pub const fn response_header_version(self, api_version: i16) -> i16 {
        match self {
            Self::ApiVersions => 0,
            _ if self.is_flexible(api_version) => 1,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_map_back_to_their_api() {
        for &key in ApiKey::ALL {
            assert_eq!(ApiKey::from_i16(key.as_i16()), Some(key));
        }
        assert_eq!(ApiKey::from_i16(-1), None);
        assert_eq!(ApiKey::from_i16(4), None, "LeaderAndIsr is gone");
        assert_eq!(ApiKey::from_i16(i16::MAX), None);
    }

    #[test]
    fn header_versions_follow_flexibility_but_for_api_versions_responses() {
        assert_eq!(ApiKey::Produce.request_header_version(8), 1);
        assert_eq!(ApiKey::Produce.request_header_version(9), 2);
        assert_eq!(ApiKey::Produce.response_header_version(8), 0);
        assert_eq!(ApiKey::Produce.response_header_version(9), 1);
        assert_eq!(ApiKey::ApiVersions.request_header_version(2), 1);
        assert_eq!(ApiKey::ApiVersions.request_header_version(i16::MAX), 2);
        assert_eq!(ApiKey::ApiVersions.response_header_version(4), 0);
        assert_eq!(ApiKey::SaslHandshake.request_header_version(1), 1);
        assert_eq!(ApiKey::OffsetDelete.response_header_version(0), 0);
    }
}
