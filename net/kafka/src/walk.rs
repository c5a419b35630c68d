//! Walks over a request before anything is decoded from it: whether every length in it fits what is there.
//!
//! The decoder of messages makes room for as many elements as an array claims to have, so a claim is believed only
//! when the bytes for it are there: never more elements than bytes, and never more than [`ELEMENTS_MAX`] in a whole
//! request. What is walked well decodes into memory of the request's own order of size.

/// Elements of all arrays of a request together; Kafka allows as many in one array.
pub(crate) const ELEMENTS_MAX: usize = 1_000_000;
/// Bytes of a string, in every version: older ones cannot say more, and what came in one may go out in another.
pub(crate) const TEXT_BYTES_MAX: usize = i16::MAX as usize;
/// Tagged fields of one structure.
pub(crate) const TAGS_MAX: usize = 10_000;

/// A structure: its fields in order.
pub(crate) type Shape = &'static [Field];

#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    from: i16,
    to: i16,
    kind: Kind,
}

impl Field {
    #[cfg(test)]
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn is_in(&self, version: i16) -> bool {
        (self.from..=self.to).contains(&version)
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A string, or none.
    Text,
    /// Bytes, or none.
    Blob,
    /// An array of structures, or none.
    List(Shape),
    /// An array of numbers of so many bytes, or none.
    Numbers(usize),
    /// An array of strings, or none.
    Texts,
    /// A byte says whether the structure is there.
    Maybe(Shape),
}

pub(crate) const fn always(kind: Kind) -> Field {
    Field { from: 0, to: i16::MAX, kind }
}

pub(crate) const fn since(from: i16, kind: Kind) -> Field {
    Field { from, to: i16::MAX, kind }
}

pub(crate) const fn between(from: i16, to: i16, kind: Kind) -> Field {
    Field { from, to, kind }
}

/// Why a request is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WalkError {
    #[error("ends in the middle of a field")]
    Short,
    #[error("a length below zero")]
    Negative,
    #[error("a number of more than 32 bits")]
    VarInt,
    #[error("{0} array elements and more")]
    TooMany(usize),
    #[error("a string of {0} bytes")]
    LongText(usize),
    #[error("{0} tagged fields")]
    Tags(usize),
}

/// Bytes of `bytes` that the request takes.
pub(crate) fn walk(shape: Shape, version: i16, flexible: bool, bytes: &[u8]) -> Result<usize, WalkError> {
    let mut walker = Walker { rest: bytes, version, flexible, elements: 0 };
    walker.structure(shape)?;
    Ok(bytes.len() - walker.rest.len())
}

/// Skips a structure's tagged fields.
pub(crate) fn skip_tags(bytes: &mut &[u8]) -> Result<(), WalkError> {
    let mut walker = Walker { rest: bytes, version: 0, flexible: true, elements: 0 };
    walker.tags()?;
    *bytes = walker.rest;
    Ok(())
}

struct Walker<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    elements: usize,
}

impl Walker<'_> {
    fn structure(&mut self, shape: Shape) -> Result<(), WalkError> {
        for field in shape {
            if field.is_in(self.version) {
                self.field(field.kind)?;
            }
        }
        if self.flexible { self.tags() } else { Ok(()) }
    }

    fn field(&mut self, kind: Kind) -> Result<(), WalkError> {
        match kind {
            Kind::Fixed(bytes) => self.skip(bytes),
            Kind::Text => {
                let bytes = if self.flexible { self.compact()? } else { self.short()? }.unwrap_or(0);
                if bytes > TEXT_BYTES_MAX {
                    return Err(WalkError::LongText(bytes));
                }
                self.skip(bytes)
            }
            Kind::Blob => {
                let bytes = if self.flexible { self.compact()? } else { self.long()? };
                self.skip(bytes.unwrap_or(0))
            }
            Kind::List(shape) => (0..self.count()?).try_for_each(|_| self.structure(shape)),
            Kind::Numbers(bytes) => {
                let count = self.count()?;
                self.skip(count * bytes)
            }
            Kind::Texts => (0..self.count()?).try_for_each(|_| self.field(Kind::Text)),
            Kind::Maybe(shape) => match self.take::<1>()? {
                [1] => self.structure(shape),
                _ => Ok(()),
            },
        }
    }

    /// Of an array's elements; each takes a byte at least.
    fn count(&mut self) -> Result<usize, WalkError> {
        let count = if self.flexible { self.compact()? } else { self.long()? }.unwrap_or(0);
        if count > self.rest.len() {
            return Err(WalkError::Short);
        }
        self.elements += count;
        if self.elements > ELEMENTS_MAX {
            return Err(WalkError::TooMany(ELEMENTS_MAX));
        }
        Ok(count)
    }

    fn tags(&mut self) -> Result<(), WalkError> {
        let count = self.varint()? as usize;
        if count > TAGS_MAX {
            return Err(WalkError::Tags(count));
        }
        for _ in 0..count {
            self.varint()?;
            let bytes = self.varint()? as usize;
            self.skip(bytes)?;
        }
        Ok(())
    }

    fn skip(&mut self, bytes: usize) -> Result<(), WalkError> {
        self.rest = self.rest.get(bytes..).ok_or(WalkError::Short)?;
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], WalkError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(WalkError::Short)?;
        self.rest = rest;
        Ok(*head)
    }

    /// A length in 16 bits, -1 for none.
    fn short(&mut self) -> Result<Option<usize>, WalkError> {
        signed(i32::from(i16::from_be_bytes(self.take()?)))
    }

    /// A length in 32 bits, -1 for none.
    fn long(&mut self) -> Result<Option<usize>, WalkError> {
        signed(i32::from_be_bytes(self.take()?))
    }

    /// A length and one as a varint, 0 for none.
    fn compact(&mut self) -> Result<Option<usize>, WalkError> {
        Ok((self.varint()? as usize).checked_sub(1))
    }

    fn varint(&mut self) -> Result<u32, WalkError> {
        let mut value = 0u64;
        for index in 0..5 {
            let [byte] = self.take()?;
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_| WalkError::VarInt);
            }
        }
        Err(WalkError::VarInt)
    }
}

fn signed(length: i32) -> Result<Option<usize>, WalkError> {
    match length {
        -1 => Ok(None),
        0.. => Ok(Some(usize::try_from(length).expect("not below zero"))),
        _ => Err(WalkError::Negative),
    }
}
