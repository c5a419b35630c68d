//! Numbers of one to ten bytes as records hold them: seven bits a byte, the least first, signs folded (zigzag).

/// Reads from the front of some bytes; `None` where they end or make no sense.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    pub(crate) rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(crate) fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest;
        Some(taken)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    pub(crate) fn varint(&mut self) -> Option<i32> {
        i32::try_from(self.varlong()?).ok()
    }

    pub(crate) fn varlong(&mut self) -> Option<i64> {
        let mut folded = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            folded |= bits << shift;
            if byte & 0x80 == 0 {
                return Some((folded >> 1) as i64 ^ -((folded & 1) as i64));
            }
        }
        None
    }

    /// A length and that many bytes; -1 is null.
    pub(crate) fn nullable(&mut self) -> Option<Option<&'a [u8]>> {
        match self.varint()? {
            -1 => Some(None),
            bytes => self.take(usize::try_from(bytes).ok()?).map(Some),
        }
    }
}

pub(crate) fn put_varlong(value: i64, out: &mut Vec<u8>) {
    let mut folded = ((value << 1) ^ (value >> 63)) as u64;
    while folded >= 0x80 {
        out.push(folded as u8 | 0x80);
        folded >>= 7;
    }
    out.push(folded as u8);
}

pub(crate) fn varlong_bytes(value: i64) -> usize {
    let folded = ((value << 1) ^ (value >> 63)) as u64;
    (64 - (folded | 1).leading_zeros() as usize).div_ceil(7)
}

pub(crate) fn put_nullable(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    put_varlong(bytes.map_or(-1, |bytes| bytes.len() as i64), out);
    out.extend_from_slice(bytes.unwrap_or_default());
}

pub(crate) fn nullable_bytes(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(varlong_bytes(-1), |bytes| varlong_bytes(bytes.len() as i64) + bytes.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_as_kafka_writes_them() {
        for (value, bytes) in [
            (0i64, &[0x00u8][..]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (300, &[0xd8, 0x04]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ] {
            let mut out = Vec::new();
            put_varlong(value, &mut out);
            assert_eq!(out, bytes, "{value}");
            assert_eq!(Cursor::new(bytes).varlong(), Some(value));
        }
    }

    #[test]
    fn numbers_without_an_end_or_above_their_type_are_refused() {
        assert_eq!(Cursor::new(&[0x80; 11]).varlong(), None);
        assert_eq!(
            Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).varlong(),
            None
        );
        assert_eq!(Cursor::new(&[0x80]).varlong(), None);
        let mut above = Vec::new();
        put_varlong(i64::from(i32::MAX) + 1, &mut above);
        assert_eq!(Cursor::new(&above).varint(), None);
        assert_eq!(Cursor::new(&[0x03]).nullable(), None, "a length of -2");
    }

    proptest! {
        #[test]
        fn every_number_comes_back_in_the_bytes_foretold(value in any::<i64>(), shift in 0u32..64) {
            let value = value >> shift;
            let mut out = Vec::new();
            put_varlong(value, &mut out);
            prop_assert_eq!(out.len(), varlong_bytes(value));
            prop_assert_eq!(Cursor::new(&out).varlong(), Some(value));
        }
    }
}
