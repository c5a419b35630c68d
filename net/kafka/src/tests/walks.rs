//! The table of shapes says the same as the decoder, for every API and version served.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::RequestKind;

use super::world::Chance;
use crate::api::{Api, all};
use crate::walk::{ELEMENTS_MAX, Field, Kind, Shape, TAGS_MAX, WalkError, walk};

/// Writes what a shape describes, with lengths up to `width`.
struct Writer<'a> {
    chance: &'a mut Chance,
    version: i16,
    flexible: bool,
    width: usize,
    out: BytesMut,
}

impl Writer<'_> {
    fn structure(&mut self, shape: Shape) {
        for field in shape {
            if field.is_in(self.version) {
                self.field(field);
            }
        }
        if self.flexible {
            let count = self.chance.below(2);
            self.out.put_u8(count as u8);
            for tag in 0..count {
                self.out.put_slice(&[100 + tag as u8, 2, 1, 2]);
            }
        }
    }

    fn field(&mut self, field: &Field) {
        match field.kind() {
            Kind::Fixed(bytes) => self.number(bytes),
            Kind::Text => self.text(),
            Kind::Blob => {
                let bytes = self.length(4);
                self.out.put_bytes(7, bytes);
            }
            Kind::List(shape) => {
                let count = self.length(4);
                (0..count).for_each(|_| self.structure(shape));
            }
            Kind::Numbers(bytes) => {
                let count = self.length(4);
                (0..count).for_each(|_| self.number(bytes));
            }
            Kind::Texts => {
                let count = self.length(4);
                (0..count).for_each(|_| self.text());
            }
            Kind::Maybe(shape) => {
                let is_there = self.chance.below(2) == 1;
                self.out.put_i8(if is_there { 1 } else { -1 });
                if is_there {
                    self.structure(shape);
                }
            }
        }
    }

    /// Booleans are bytes, too, and come back as 0 or 1.
    fn number(&mut self, bytes: usize) {
        self.out.put_bytes(0, bytes - 1);
        let byte = self.chance.below(2) as u8;
        self.out.put_u8(byte);
    }

    fn text(&mut self) {
        let bytes = self.length(2);
        self.out.put_bytes(b'a', bytes);
    }

    fn length(&mut self, fixed_bytes: usize) -> usize {
        let length = self.chance.below(self.width + 1);
        match fixed_bytes {
            _ if self.flexible => self.out.put_u8((length + 1) as u8),
            2 => self.out.put_i16(length as i16),
            _ => self.out.put_i32(length as i32),
        }
        length
    }
}

pub(super) fn some_request(api: &Api, version: i16, chance: &mut Chance, width: usize) -> Bytes {
    let flexible = api.is_flexible(version);
    let mut writer = Writer { chance, version, flexible, width, out: BytesMut::new() };
    writer.structure(api.shape);
    writer.out.freeze()
}

pub(super) fn versions() -> impl Iterator<Item = (&'static Api, i16)> {
    all().flat_map(|api| (api.version_min..=api.version_max).map(move |version| (api, version)))
}

#[test]
fn what_the_shape_describes_is_what_the_decoder_reads_and_the_walk_ends_where_it_ends() {
    let mut chance = Chance(1);
    for (api, version) in versions() {
        for round in 0..20 {
            let bytes = some_request(api, version, &mut chance, round % 4);
            let walked = walk(api.shape, version, api.is_flexible(version), &bytes);
            assert_eq!(walked, Ok(bytes.len()), "{} {version}", api.name);
            let mut rest = bytes.clone();
            let decoded = RequestKind::decode(api.key, &mut rest, version)
                .unwrap_or_else(|error| panic!("{} {version}: {error}", api.name));
            assert!(rest.is_empty(), "{} {version}: {} bytes left", api.name, rest.len());
            let mut again = BytesMut::new();
            decoded.encode(&mut again, version).unwrap();
            assert_eq!(again, bytes, "{} {version}", api.name);
        }
    }
}

#[test]
fn every_cut_is_noticed() {
    let mut chance = Chance(2);
    for (api, version) in versions() {
        let bytes = some_request(api, version, &mut chance, 3);
        for end in 0..bytes.len() {
            let walked = walk(api.shape, version, api.is_flexible(version), &bytes[..end]);
            assert_eq!(walked, Err(WalkError::Short), "{} {version}", api.name);
        }
    }
}

#[test]
fn what_the_walk_lets_through_the_decoder_takes_without_panicking_or_refuses() {
    let mut chance = Chance(3);
    for (api, version) in versions() {
        for _ in 0..60 {
            let mut bytes = some_request(api, version, &mut chance, 3).to_vec();
            for _ in 0..=chance.below(3) {
                if !bytes.is_empty() {
                    let place = chance.below(bytes.len());
                    bytes[place] = chance.next() as u8;
                }
            }
            if walk(api.shape, version, api.is_flexible(version), &bytes).is_ok() {
                let _ = RequestKind::decode(api.key, &mut Bytes::from(bytes), version);
            }
        }
    }
}

#[test]
fn claims_beyond_the_limits_are_refused() {
    const NUMBERS: Shape = &[crate::walk::always(Kind::Numbers(4))];
    const NOTHINGS: Shape = &[crate::walk::always(Kind::List(&[]))];
    let walk_plain = |shape, bytes: &[u8]| walk(shape, 0, false, bytes);
    assert_eq!(walk_plain(NUMBERS, &i32::MAX.to_be_bytes()), Err(WalkError::Short));
    assert_eq!(walk_plain(NUMBERS, &(-2i32).to_be_bytes()), Err(WalkError::Negative));
    assert_eq!(walk_plain(NUMBERS, &(-1i32).to_be_bytes()), Ok(4));
    // As many as there are bytes, and too many.
    let mut many = (ELEMENTS_MAX as i32 + 1).to_be_bytes().to_vec();
    many.resize(4 + ELEMENTS_MAX + 1, 0);
    assert_eq!(walk_plain(NOTHINGS, &many), Err(WalkError::TooMany(ELEMENTS_MAX)));
    const TEXT: Shape = &[crate::walk::always(Kind::Text)];
    let long = [&[0x81, 0x80, 0x02][..], &[b'a'; 40_000]].concat();
    assert_eq!(walk(TEXT, 0, true, &long), Err(WalkError::LongText(32_768)));
    let tags = [0x91, 0x4e];
    assert_eq!(walk(&[], 0, true, &tags), Err(WalkError::Tags(TAGS_MAX + 1)));
    assert_eq!(walk(&[], 0, true, &[0xff; 6]), Err(WalkError::VarInt));
}
