//! Connection ids that say which core they belong to.
//!
//! ```text
//! 0  core u8     1  random, 5 bytes     6  tag u16: HMAC-SHA-256 of bytes 0..6 under the node's secret
//! ```
//! The kernel steers packets by the first byte. The tag lets a core recognise ids of this node, of any of its
//! lives, and so answer a packet of a connection it has forgotten with a stateless reset instead of silence,
//! and everything else with silence. Eight bytes, because every packet from a client carries them.

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid, RandomConnectionIdGenerator};
use ring::hmac;

use engine_api::CoreId;

pub(crate) const CID_BYTES: usize = 8;
const TAGGED_BYTES: usize = 6;

#[derive(Clone)]
pub(crate) struct CoreCids {
    core: CoreId,
    key: hmac::Key,
    random: Random,
}

#[derive(Clone)]
enum Random {
    System(RandomConnectionIdGenerator),
    /// SplitMix64 of the seed told.
    Seeded(u64),
}

impl Random {
    fn fill(&mut self, bytes: &mut [u8]) {
        match self {
            Self::System(system) => bytes.copy_from_slice(&system.generate_cid()),
            Self::Seeded(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = *state;
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                bytes.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..bytes.len()]);
            }
        }
    }
}

impl CoreCids {
    /// Without a seed the system is asked for randomness.
    pub(crate) fn new(core: CoreId, key: hmac::Key, seed: Option<u64>) -> Self {
        let system = || Random::System(RandomConnectionIdGenerator::new(TAGGED_BYTES - 1));
        Self { core, key, random: seed.map_or_else(system, Random::Seeded) }
    }

    fn tag(&self, tagged: &[u8]) -> [u8; 2] {
        let tag = hmac::sign(&self.key, tagged);
        [tag.as_ref()[0], tag.as_ref()[1]]
    }
}

impl ConnectionIdGenerator for CoreCids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; CID_BYTES];
        id[0] = self.core.0;
        self.random.fill(&mut id[1..TAGGED_BYTES]);
        let tag = self.tag(&id[..TAGGED_BYTES]);
        id[TAGGED_BYTES..].copy_from_slice(&tag);
        ConnectionId::new(&id)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        // Whatever its core byte: after a restart with fewer cores another core gets it.
        match id.split_at_checked(TAGGED_BYTES) {
            Some((tagged, tag)) if tag == self.tag(tagged) => Ok(()),
            _ => Err(InvalidCid),
        }
    }

    fn cid_len(&self) -> usize {
        CID_BYTES
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}
