//! Any request and any response as one type each, chosen by API, for code that handles all of them alike.
//!
//! The list of bodies is generated (`messages/body.rs`).

macro_rules! bodies {
    ($($name:ident: $request:ident => $response:ident;)*) => {
        use crate::ApiKey;
        use crate::codec::{DecodeError, EncodeError, Message, Reader, Writer};

        /// The body of any request.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(clippy::large_enum_variant, reason = "made once per request and matched at once")]
        pub enum RequestBody {
            $($name($request),)*
        }

        impl RequestBody {
            /// Reads the body of a request of this API and version.
            pub fn decode(key: ApiKey, r: &mut Reader, api_version: i16) -> Result<Self, DecodeError> {
                match key {
                    $(ApiKey::$name => Ok(Self::$name($request::decode(r, api_version)?)),)*
                }
            }

            /// Writes the body.
            pub fn encode(&self, w: &mut Writer, api_version: i16) -> Result<(), EncodeError> {
                match self {
                    $(Self::$name(body) => body.encode(w, api_version),)*
                }
            }

            /// The API the request belongs to.
            pub fn key(&self) -> ApiKey {
                match self {
                    $(Self::$name(_) => ApiKey::$name,)*
                }
            }
        }

        /// The body of any response.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(clippy::large_enum_variant, reason = "made once per response and written at once")]
        pub enum ResponseBody {
            $($name($response),)*
        }

        impl ResponseBody {
            /// Reads the body of a response of this API and version.
            pub fn decode(key: ApiKey, r: &mut Reader, api_version: i16) -> Result<Self, DecodeError> {
                match key {
                    $(ApiKey::$name => Ok(Self::$name($response::decode(r, api_version)?)),)*
                }
            }

            /// Writes the body.
            pub fn encode(&self, w: &mut Writer, api_version: i16) -> Result<(), EncodeError> {
                match self {
                    $(Self::$name(body) => body.encode(w, api_version),)*
                }
            }

            /// The API the response belongs to.
            pub fn key(&self) -> ApiKey {
                match self {
                    $(Self::$name(_) => ApiKey::$name,)*
                }
            }
        }

        $(
            impl From<$request> for RequestBody {
                fn from(body: $request) -> Self {
                    Self::$name(body)
                }
            }

            impl From<$response> for ResponseBody {
                fn from(body: $response) -> Self {
                    Self::$name(body)
                }
            }
        )*
    };
}

pub(crate) use bodies;
