//! Which core of a node a datagram goes to: as the kernel's filter of `net/sockets` says.

/// The first byte of the destination connection id, modulo the cores: byte 6 behind a long header, byte 1 behind a
/// short one. A datagram too short for that goes to core 0.
#[must_use]
pub fn core_of(datagram: &[u8], cores: u8) -> u8 {
    assert!(cores > 0, "a node has a core");
    let at = if datagram.first().is_some_and(|first| first & 0x80 != 0) { 6 } else { 1 };
    datagram.get(at).map_or(0, |id| id % cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_is_the_first_byte_of_the_destination_id_modulo_the_cores() {
        assert_eq!(core_of(&[0xc3, 0, 0, 0, 1, 8, 5, 9], 4), 1);
        assert_eq!(core_of(&[0x43, 7, 1, 1], 4), 3);
        assert_eq!(core_of(&[0xc3, 0, 0], 4), 0);
        assert_eq!(core_of(&[], 4), 0);
    }
}
