//! Any message by the name of its schema.

use bytes::Bytes;
use chronik_wire::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use chronik_wire::messages::{RequestHeader, ResponseHeader};
use chronik_wire::{ApiKey, DecodeError, EncodeError, Message, Reader, RequestBody, ResponseBody, Writer};

use crate::schema;

/// What became of bytes that were decoded.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// Bytes the decoder left over.
    pub(crate) remaining: usize,
    /// The message's debug form.
    pub(crate) text: String,
    /// The message encoded again.
    pub(crate) encoded: Result<Bytes, EncodeError>,
}

pub(crate) fn decode(schema: &schema::Message, version: i16, bytes: Bytes) -> Result<Decoded, DecodeError> {
    let key = schema.api_key.map(|key| ApiKey::from_i16(key).expect("every schema's API has a key"));
    let mut r = Reader::new(bytes);
    let mut w = Writer::new();
    let (text, encoded) = match (schema.kind.as_str(), schema.name.as_str()) {
        ("request", _) => {
            let body = RequestBody::decode(key.unwrap(), &mut r, version)?;
            (format!("{body:?}"), body.encode(&mut w, version))
        }
        ("response", _) => {
            let body = ResponseBody::decode(key.unwrap(), &mut r, version)?;
            (format!("{body:?}"), body.encode(&mut w, version))
        }
        (_, "RequestHeader") => recode::<RequestHeader>(&mut r, &mut w, version)?,
        (_, "ResponseHeader") => recode::<ResponseHeader>(&mut r, &mut w, version)?,
        (_, "ConsumerProtocolAssignment") => recode::<ConsumerProtocolAssignment>(&mut r, &mut w, version)?,
        (_, "ConsumerProtocolSubscription") => recode::<ConsumerProtocolSubscription>(&mut r, &mut w, version)?,
        (_, other) => panic!("no type for {other}"),
    };
    Ok(Decoded { remaining: r.remaining(), text, encoded: encoded.map(|()| w.into_bytes()) })
}

fn recode<M: Message>(
    r: &mut Reader,
    w: &mut Writer,
    version: i16,
) -> Result<(String, Result<(), EncodeError>), DecodeError> {
    let message = M::decode(r, version)?;
    Ok((format!("{message:?}"), message.encode(w, version)))
}
