use engine_meta::identity::IDENTITY_BYTES;

use super::*;

const WANTED: Wanted = Wanted { node_id: 1, cluster_id: None };

fn begin(directory: &Path) -> Result<Identity, IdentityError> {
    begin_life(directory, WANTED, false)
}

#[test]
fn a_fresh_directory_gets_an_identity_and_keeps_it_while_incarnations_rise() {
    let dir = tempfile::tempdir().unwrap();
    let first = begin(dir.path()).unwrap();
    assert_eq!(first.incarnation, 1);
    let second = begin(dir.path()).unwrap();
    assert_eq!(second, Identity { incarnation: 2, ..first });
    let wanted = Wanted { cluster_id: Some(first.cluster_id), ..WANTED };
    assert_eq!(begin_life(dir.path(), wanted, true).unwrap().incarnation, 3);
    assert_eq!(std::fs::metadata(dir.path().join(FILE_NAME)).unwrap().len(), IDENTITY_BYTES as u64);
}

#[test]
fn a_newer_format_is_refused_naming_file_and_both_versions() {
    let dir = tempfile::tempdir().unwrap();
    begin(dir.path()).unwrap();
    let path = dir.path().join(FILE_NAME);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8] = 7;
    std::fs::write(&path, &bytes[..512]).unwrap();
    let error = begin(dir.path()).unwrap_err().to_string();
    let wanted = "identity has format version 7, this build reads version 1: start the newer build";
    assert!(error.contains(wanted) && error.starts_with(path.to_str().unwrap()), "{error}");
}

#[test]
fn a_damaged_file_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    begin(dir.path()).unwrap();
    let path = dir.path().join(FILE_NAME);
    let mut bad = std::fs::read(&path).unwrap();
    bad[40] ^= 0x40;
    std::fs::write(&path, &bad).unwrap();
    let error = begin(dir.path()).unwrap_err().to_string();
    assert!(error.contains("identity is damaged (checksum 0x"), "{error}");
    assert!(error.ends_with("restore it from a backup, or start with an empty data directory"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), bad);
}

#[test]
fn logs_without_an_identity_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = begin_life(dir.path(), WANTED, true).unwrap_err().to_string();
    assert!(error.contains("identity is missing though there are logs beside it"), "{error}");
    assert!(!dir.path().join(FILE_NAME).exists());
}

#[test]
fn a_directory_of_another_node_or_cluster_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    begin(dir.path()).unwrap();
    let refused = |wanted| begin_life(dir.path(), wanted, false).unwrap_err().to_string();
    let error = refused(Wanted { node_id: 2, cluster_id: None });
    assert!(
        error.contains("identity belongs to another node: it says node 1, the settings say node 2"),
        "{error}"
    );
    let error = refused(Wanted { node_id: 1, cluster_id: Some(9) });
    assert!(error.contains("identity belongs to another cluster"), "{error}");
    assert_eq!(begin(dir.path()).unwrap().incarnation, 2);
}
