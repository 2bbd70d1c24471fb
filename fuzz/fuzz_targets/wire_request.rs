//! Every request decoder: two bytes choose the API, two the version, the rest is the body.
//!
//! What decodes must encode to a form that is stable from then on, and the view of a produce request must agree with the
//! generated decoder.
#![no_main]

use bytes::Bytes;
use chronik_wire::produce::ProduceRequestView;
use chronik_wire::{ApiKey, Reader, RequestBody, Writer};
use libfuzzer_sys::fuzz_target;

/// Small enough that a decoder which ignored it would be noticed by the fuzzer's memory limit.
const BUDGET: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((choice, body)) = data.split_first_chunk::<4>() else { return };
    let [a, b, c, d] = *choice;
    let key = ApiKey::ALL[usize::from(u16::from_be_bytes([a, b])) % ApiKey::ALL.len()];
    let versions = key.valid_versions();
    let count = versions.end() - versions.start() + 1;
    let version = versions.start() + (u16::from_be_bytes([c, d]) % count as u16) as i16;
    let body = Bytes::copy_from_slice(body);

    let mut r = Reader::with_budget(body.clone(), BUDGET);
    let decoded = RequestBody::decode(key, &mut r, version);
    if key == ApiKey::Produce {
        let mut view_reader = Reader::new(body);
        let view = ProduceRequestView::decode(&mut view_reader, version);
        if let Ok(RequestBody::Produce(request)) = &decoded {
            let view = view.expect("the view reads what the generated decoder reads");
            assert_eq!(view_reader.remaining(), r.remaining());
            let records = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
            assert!(records.map(|data| &data.records).eq(view.partitions.iter().map(|data| &data.records)));
        }
    }
    let Ok(request) = decoded else { return };
    let mut w = Writer::new();
    // A string with replaced bytes may outgrow what can be sent.
    if request.encode(&mut w, version).is_err() {
        return;
    }
    let encoded = w.into_bytes();
    let mut r = Reader::new(encoded.clone());
    let again = RequestBody::decode(key, &mut r, version).expect("what was encoded decodes");
    assert_eq!(r.remaining(), 0);
    let mut w = Writer::new();
    again.encode(&mut w, version).expect("what was encoded once encodes again");
    assert_eq!(w.into_bytes(), encoded);
});
