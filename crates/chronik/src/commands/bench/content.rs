//! What the records of a run hold, so that each can be told from all others and every byte of it is known.
//!
//! ```text
//! 0 run u64 | 8 number u64 | 16 letters A to Z, from a pool that all records of the run read in turn
//! ```
//! The pool is a mebibyte, so letters do not repeat within a batch of usual size and compress as random letters do.

use super::check::Fault;
use chronik_model::Offset;

/// Bytes before the letters, the least a record has.
pub(crate) const HEAD_BYTES: usize = 16;

const POOL_BYTES: usize = 1 << 20;

/// The contents of one run's records.
#[derive(Debug)]
pub(crate) struct Content {
    run: [u8; 8],
    letters: usize,
    /// `POOL_BYTES` letters, and the first `letters` of them again.
    pool: Vec<u8>,
}

impl Content {
    /// Records of `record_bytes`, at least [`HEAD_BYTES`], of the run with this number.
    pub(crate) fn new(run: u64, record_bytes: usize) -> Self {
        let letters = record_bytes.saturating_sub(HEAD_BYTES);
        let mut random = run;
        let mut pool = Vec::with_capacity(POOL_BYTES.saturating_add(letters));
        while pool.len() < POOL_BYTES {
            pool.extend(next_letters(&mut random));
        }
        // Letters that begin near the end go on from the start; a record may be larger than the pool.
        while pool.len() < POOL_BYTES.saturating_add(letters) {
            let missing = POOL_BYTES.saturating_add(letters).saturating_sub(pool.len());
            pool.extend_from_within(..missing.min(POOL_BYTES));
        }
        Self { run: run.to_be_bytes(), letters, pool }
    }

    pub(crate) fn record_bytes(&self) -> usize {
        HEAD_BYTES.saturating_add(self.letters)
    }

    /// Makes `value` the value of the record with this number.
    pub(crate) fn write(&self, number: u64, value: &mut Vec<u8>) {
        value.clear();
        value.extend_from_slice(&self.run);
        value.extend_from_slice(&number.to_be_bytes());
        value.extend_from_slice(self.letters_of(number));
    }

    /// The number of a record of this run; `None` for a value of another origin.
    pub(crate) fn number(&self, value: &[u8]) -> Option<u64> {
        let (run, rest) = value.split_first_chunk::<8>()?;
        let (number, _) = rest.split_first_chunk::<8>()?;
        (*run == self.run).then(|| u64::from_be_bytes(*number))
    }

    /// Whether `value`, found at `offset`, is that of the record with this number, to the last byte.
    pub(crate) fn check(&self, offset: Offset, number: u64, value: &[u8]) -> Result<(), Fault> {
        let found = self.number(value);
        if found != Some(number) {
            return Err(Fault::Record { offset, expected: number, found });
        }
        let letters = value.get(HEAD_BYTES..).unwrap_or_default();
        let expected = self.letters_of(number);
        if letters == expected {
            return Ok(());
        }
        let same = letters.iter().zip(expected).take_while(|(found, expected)| found == expected).count();
        Err(Fault::Content { offset, number, position: HEAD_BYTES.saturating_add(same) })
    }

    fn letters_of(&self, number: u64) -> &[u8] {
        let pool = u64::try_from(POOL_BYTES).unwrap_or(u64::MAX);
        let letters = u64::try_from(self.letters).unwrap_or(u64::MAX);
        let start = usize::try_from(number.wrapping_mul(letters) % pool).unwrap_or(0);
        self.pool.get(start..start.saturating_add(self.letters)).unwrap_or_default()
    }
}

/// Eight letters from the next number of a SplitMix64 sequence. That 26 does not divide 256 makes some letters a little more
/// frequent, which does no harm here.
fn next_letters(state: &mut u64) -> [u8; 8] {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)).to_be_bytes().map(|byte| b'A' + byte % 26)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Offset = Offset::new(7);

    fn written(content: &Content, number: u64) -> Vec<u8> {
        let mut value = Vec::new();
        content.write(number, &mut value);
        value
    }

    #[test]
    fn records_have_their_size_and_their_number() {
        for record_bytes in [16, 17, 100, 3 << 20] {
            let content = Content::new(42, record_bytes);
            assert_eq!(content.record_bytes(), record_bytes);
            for number in [0, 1, 1_000_003, u64::MAX] {
                let value = written(&content, number);
                assert_eq!((value.len(), content.number(&value)), (record_bytes, Some(number)));
                content.check(AT, number, &value).unwrap();
            }
        }
    }

    #[test]
    fn each_flipped_bit_and_each_missing_byte_is_found() {
        let content = Content::new(42, 60);
        let value = written(&content, 3);
        for position in 0..value.len() {
            for bit in 0..8 {
                let mut damaged = value.clone();
                damaged[position] ^= 1 << bit;
                let fault = content.check(AT, 3, &damaged).unwrap_err();
                if position >= HEAD_BYTES {
                    assert_eq!(fault, Fault::Content { offset: AT, number: 3, position });
                } else {
                    assert!(matches!(fault, Fault::Record { expected: 3, .. }), "{fault:?}");
                }
            }
            assert!(content.check(AT, 3, &value[..position]).is_err());
        }
        assert!(content.check(AT, 3, &[&value[..], b"A"].concat()).is_err());
    }

    #[test]
    fn records_of_other_runs_and_numbers_are_told_apart() {
        let (content, other) = (Content::new(42, 60), Content::new(43, 60));
        assert_eq!(content.number(&written(&other, 3)), None);
        let fault = content.check(AT, 3, &written(&content, 4)).unwrap_err();
        assert_eq!(fault, Fault::Record { offset: AT, expected: 3, found: Some(4) });
        assert_eq!(content.number(b"short"), None);
        assert_ne!(written(&content, 3)[HEAD_BYTES..], written(&content, 4)[HEAD_BYTES..]);
    }
}
