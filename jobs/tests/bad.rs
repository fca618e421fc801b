//! Every file in `tests/bad` is refused, with the message that its first line names.

use anabranch::components::Registry;
use anabranch::job::Job;

#[test]
fn each_bad_file_is_refused_with_its_message() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bad");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap();
        let expected = first.strip_prefix("# fails: ").expect("the first line names the message");
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let message = match Job::read_in(&Registry::standard(), &name, &text, &[], &|_| None) {
            Ok(_) => panic!("{name} was accepted"),
            Err(problems) => problems.to_string(),
        };
        for part in expected.split(" && ") {
            assert!(message.contains(part), "{name}: `{part}` is not in:\n{message}");
        }
        assert!(message.contains(&format!("--> {name}:")), "{name} has no place:\n{message}");
        seen += 1;
    }
    assert!(seen >= 12, "only {seen} files were found");
}

#[test]
fn all_problems_are_told_at_once() {
    let text = "[job]\nname = 'x'\nworkrs = 1\ncredit = 5\n[sorce.a]\nkind = 'b'\n";
    let problems = Job::read(&Registry::standard(), "job.toml", text, &[]).err().unwrap();
    assert_eq!(problems.found().len(), 3, "{problems}");
    insta::assert_snapshot!(problems);
}

#[test]
fn set_reaches_any_key_and_names_its_own_place() {
    let text = "[job]\nname = 'x'\n[vars]\ndata = '.'\n";
    let set = |argument: &str| {
        Job::read(&Registry::standard(), "job.toml", text, &[argument.into()])
            .err()
            .unwrap()
            .to_string()
    };
    assert!(set("job.workers=0").contains("--> --set:1:13"));
    assert!(set("job.wrkers=2").contains("did you mean `workers`?"));
    assert!(set("dta=2").contains("did you mean `data`?"));
    assert!(set("job.name.x=2").contains("`name` is a string, not a table"));
    assert!(set("nothing").contains("takes KEY=VALUE"));
    assert!(set(".=1").contains("is no key"));
}
