use super::*;

fn words(text: &str) -> Vec<OsString> {
    text.split(' ').map(OsString::from).collect()
}

#[test]
fn tool_is_known_by_its_own_name_and_by_its_first_arguments() {
    for (name, tool) in TOOLS {
        for called in [format!("/usr/bin/{name} --list"), format!("{name}.sh --list")] {
            let (found, args) = asked(&words(&called)).expect(name);
            assert_eq!((found, args.len()), (tool, 2), "{called}");
        }
        let (found, args) = asked(&words(&format!("millstream {name}.sh --list"))).expect(name);
        assert_eq!((found, args.len()), (tool, 2));
    }
    assert_eq!(asked(&words("millstream topic list")), None);
    assert_eq!(asked(&words("millstream produce kafka-topics")), None);
}

#[test]
fn zookeeper_is_answered_with_what_to_use() {
    #[derive(Debug, Parser)]
    struct Anything {}
    assert!(parse::<Anything>(words("kafka-topics --zookeeper localhost:2181 --list")).is_err());
    assert!(parse::<Anything>(words("kafka-topics --zookeeper=localhost:2181")).is_err());
    assert!(parse::<Anything>(words("kafka-topics")).is_ok());
}
