//! The primitive types at their borders; whole messages are tested in `tests/it`.

use bytes::Bytes;

use super::*;

fn reader(bytes: &[u8]) -> Reader {
    Reader::new(Bytes::copy_from_slice(bytes))
}

fn written(write: impl FnOnce(&mut Writer)) -> Bytes {
    let mut w = Writer::new();
    write(&mut w);
    w.into_bytes()
}

#[test]
fn uvarints_roundtrip_and_know_their_length() {
    for value in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, 0x1f_ffff, 0x20_0000, 0xfff_ffff, 0x1000_0000, u32::MAX] {
        let bytes = written(|w| w.uvarint(value));
        assert_eq!(bytes.len(), uvarint_len(value), "{value}");
        assert_eq!(Reader::new(bytes).uvarint("x"), Ok(value));
    }
    assert_eq!(&written(|w| w.uvarint(300))[..], [0xac, 0x02]);
}

#[test]
fn uvarints_beyond_32_bits_are_errors() {
    for bytes in [&[0xff, 0xff, 0xff, 0xff, 0x10][..], &[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]] {
        assert_eq!(reader(bytes).uvarint("x").unwrap_err().kind, DecodeErrorKind::VarintTooLong);
    }
    assert!(matches!(reader(&[0x80]).uvarint("x").unwrap_err().kind, DecodeErrorKind::Truncated { .. }));
}

#[test]
fn strings_have_both_forms_and_null() {
    for flexible in [false, true] {
        for value in [None, Some(""), Some("grüße")] {
            let bytes = written(|w| w.nullable_string(flexible, "s", value).unwrap());
            let mut r = Reader::new(bytes.clone());
            assert_eq!(r.nullable_string(flexible, "s").unwrap().as_deref(), value);
            assert_eq!(r.remaining(), 0);
            let required = Reader::new(bytes).string(flexible, "s");
            match value {
                Some(value) => assert_eq!(required.unwrap(), value),
                None => assert_eq!(required.unwrap_err().kind, DecodeErrorKind::Null),
            }
        }
    }
    assert_eq!(&written(|w| w.string(false, "s", "ab").unwrap())[..], [0, 2, b'a', b'b']);
    assert_eq!(&written(|w| w.string(true, "s", "ab").unwrap())[..], [3, b'a', b'b']);
}

#[test]
fn strings_that_are_not_utf8_get_replacement_characters() {
    assert_eq!(reader(&[0, 3, b'a', 0xff, b'b']).string(false, "s").unwrap(), "a\u{fffd}b");
}

#[test]
fn strings_beyond_kafkas_limit_are_errors_on_both_sides() {
    let long = "x".repeat(STRING_BYTES_MAX + 1);
    for flexible in [false, true] {
        let mut w = Writer::new();
        assert_eq!(w.string(flexible, "s", &long), Err(EncodeError::TooLong { field: "s", len: long.len() }));
        assert!(w.string(flexible, "s", &long[1..]).is_ok());
        assert_eq!(Reader::new(w.into_bytes()).string(flexible, "s").unwrap().len(), STRING_BYTES_MAX);
    }
    let bytes = written(|w| {
        w.uvarint(long.len() as u32 + 1);
        w.raw(long.as_bytes());
    });
    assert_eq!(Reader::new(bytes).string(true, "s").unwrap_err().kind, DecodeErrorKind::StringTooLong(long.len()));
}

#[test]
fn byte_strings_are_slices_of_the_input() {
    for flexible in [false, true] {
        let bytes = written(|w| w.bytes(flexible, "b", b"payload").unwrap());
        let slice = Reader::new(bytes.clone()).bytes(flexible, "b").unwrap();
        assert_eq!(&slice[..], b"payload");
        assert!(bytes.as_ptr_range().contains(&slice.as_ptr()));
        let null = written(|w| w.null(flexible));
        assert_eq!(Reader::new(null.clone()).nullable_bytes(flexible, "b"), Ok(None));
        assert_eq!(Reader::new(null).bytes(flexible, "b").unwrap_err().kind, DecodeErrorKind::Null);
    }
}

#[test]
fn array_counts_beyond_the_bytes_are_errors_before_anything_is_allocated() {
    let error = reader(&[0x7f, 0xff, 0xff, 0xff, 1, 2]).array(false, "a", |r| r.i8("e")).unwrap_err();
    assert_eq!(error.kind, DecodeErrorKind::CountTooLarge { count: 0x7fff_ffff, remaining: 2 });
    let error = reader(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1]).array(true, "a", |r| r.i8("e")).unwrap_err();
    assert_eq!(error.kind, DecodeErrorKind::CountTooLarge { count: 0xffff_fffe, remaining: 1 });
    assert_eq!(error.field, "a");
    assert_eq!(error.position, 5);
}

#[test]
fn elements_are_charged_to_the_budget() {
    let bytes = written(|w| {
        w.array(true, "a", &[1i64, 2, 3], |w, v| {
            w.i64(*v);
            Ok(())
        })
        .unwrap();
    });
    let decode = |budget| Reader::with_budget(bytes.clone(), budget).array(true, "a", |r| r.i64("e"));
    assert_eq!(decode(24), Ok(vec![1, 2, 3]));
    assert_eq!(decode(23).unwrap_err().kind, DecodeErrorKind::BudgetExceeded { count: 3, budget: 23 });
}

#[test]
fn unknown_tags_are_skipped_and_known_ones_must_fill_their_size() {
    let mut seen = None;
    let mut r = reader(&[2, 0, 1, 42, 5, 2, 9, 9, 77]);
    r.tags(|r, tag| {
        if tag == 0 {
            seen = Some(r.i8("x")?);
        }
        Ok(tag == 0)
    })
    .unwrap();
    assert_eq!((seen, r.remaining()), (Some(42), 1));

    let short = reader(&[1, 0, 2, 42, 42]).tags(|r, _| r.i8("x").map(|_| true)).unwrap_err();
    assert_eq!(short.kind, DecodeErrorKind::TaggedFieldSize { tag: 0, size: 2 });
    let long = reader(&[1, 0, 1, 42, 42]).tags(|r, _| r.i16("x").map(|_| true)).unwrap_err();
    assert_eq!(long.kind, DecodeErrorKind::Truncated { needed: 2, remaining: 1 });
}

#[test]
fn tag_counts_and_sizes_beyond_the_bytes_are_errors() {
    assert!(matches!(reader(&[2, 0, 0]).skip_tags().unwrap_err().kind, DecodeErrorKind::CountTooLarge { .. }));
    assert!(matches!(reader(&[1, 0, 2, 1]).skip_tags().unwrap_err().kind, DecodeErrorKind::Truncated { .. }));
}

#[test]
fn errors_name_field_and_position() {
    let mut r = reader(&[0, 1, 2]);
    r.i16("a").unwrap();
    assert_eq!(r.i32("b").unwrap_err().to_string(), "field b at byte 2: needs 4 bytes, 1 left");
}
