use super::*;

fn begin(directory: &Path) -> Result<Identity, IdentityError> {
    Identity::begin_life(directory, 1, None, false)
}

#[test]
fn a_fresh_directory_gets_an_identity_and_keeps_it_while_incarnations_rise() {
    let dir = tempfile::tempdir().unwrap();
    let first = begin(dir.path()).unwrap();
    assert_eq!(first.incarnation, 1);
    let second = begin(dir.path()).unwrap();
    assert_eq!(second, Identity { incarnation: 2, ..first });
    let third = Identity::begin_life(dir.path(), 1, Some(first.cluster_id), true).unwrap();
    assert_eq!(third.incarnation, 3);
    assert_eq!(std::fs::metadata(dir.path().join(FILE_NAME)).unwrap().len(), FILE_BYTES as u64);
}

#[test]
fn the_format_is_drawn_byte_by_byte() {
    let identity =
        Identity { cluster_id: 0x0102, directory_id: 0x0304, node_id: 5, incarnation: 6, created_ms: 7 };
    let bytes = identity.encode();
    assert_eq!(&bytes[..12], b"MILLSTRM\x01\0\0\0");
    assert_eq!(u32::from_le_bytes(array(&bytes, 12)), crc(&bytes[16..]));
    assert_eq!((bytes[16], bytes[17], bytes[32], bytes[33]), (2, 1, 4, 3));
    assert_eq!((bytes[48], bytes[52], bytes[56]), (5, 6, 7));
    assert_eq!(Identity::decode(Path::new("x"), &bytes).unwrap(), identity);
}

#[test]
fn a_newer_format_is_refused_naming_both_versions() {
    let dir = tempfile::tempdir().unwrap();
    begin(dir.path()).unwrap();
    let path = dir.path().join(FILE_NAME);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8] = 7;
    std::fs::write(&path, &bytes[..512]).unwrap();
    let error = begin(dir.path()).unwrap_err();
    assert!(matches!(error, IdentityError::Newer { found: 7, .. }));
    assert!(error.to_string().contains("format version 7, this build reads version 1"), "{error}");
}

#[test]
fn damage_anywhere_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    begin(dir.path()).unwrap();
    let path = dir.path().join(FILE_NAME);
    let good = std::fs::read(&path).unwrap();
    for at in [0, 9, 12, 16, 40, 50, 55, 60, 64, FILE_BYTES - 1] {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        std::fs::write(&path, &bad).unwrap();
        assert!(begin(dir.path()).is_err(), "byte {at}");
        assert_eq!(std::fs::read(&path).unwrap(), bad);
    }
    for bytes in [0, 8, 10, 100, FILE_BYTES - 1] {
        std::fs::write(&path, &good[..bytes]).unwrap();
        assert!(matches!(begin(dir.path()), Err(IdentityError::Damaged { .. })), "{bytes} bytes");
    }
}

#[test]
fn logs_without_an_identity_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Identity::begin_life(dir.path(), 1, None, true), Err(IdentityError::Missing { .. })));
    assert!(!dir.path().join(FILE_NAME).exists());
}

#[test]
fn a_directory_of_another_node_or_cluster_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    begin(dir.path()).unwrap();
    let error = Identity::begin_life(dir.path(), 2, None, false).unwrap_err().to_string();
    assert!(error.contains("belongs to another node: it says node 1, the settings say node 2"), "{error}");
    let error = Identity::begin_life(dir.path(), 1, Some(9), false).unwrap_err().to_string();
    assert!(error.contains("belongs to another cluster"), "{error}");
    assert_eq!(begin(dir.path()).unwrap().incarnation, 2);
}
