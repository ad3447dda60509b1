use super::*;

fn errors_of(path: &str, text: &str) -> Vec<String> {
    let mut findings = Findings::default();
    let path = Path::new(path);
    check_markers(path, text, &mut findings);
    let source = Source::new(path, text);
    rust::check(&source, &mut findings);
    layers::check(&source, &mut findings);
    findings.errors
}

#[test]
fn this_repository_is_tidy_enough_to_be_walked() {
    let paths = files::list(&files::root()).unwrap();
    assert!(paths.contains(&PathBuf::from("xtask/src/tidy/tests.rs")));
    assert!(
        !paths
            .iter()
            .any(|path| path.starts_with("target") || path.starts_with(".git"))
    );
}

#[test]
fn code_is_seen_and_texts_and_comments_are_not() {
    let text = "fn a() { let x = \"unsafe\"; } // unsafe\n/* unsafe /* unsafe */ unsafe */\n\
                const C: char = '\"'; let y = r#\"unsafe \" \"#; fn b<'a>(x: &'a str) {}\n";
    assert_eq!(errors_of("crates/hub/src/x.rs", text), Vec::<String>::new());
    let text = "fn a() {}\nconst C: char = '\"'; unsafe {}\n";
    let found = errors_of("crates/hub/src/x.rs", text);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("crates/hub/src/x.rs:2: unsafe outside crates/hub/src/socket,"));
}

#[test]
fn unsafe_needs_its_reason_also_where_it_is_allowed() {
    let path = "crates/hub/src/socket/x.rs";
    assert_eq!(errors_of(path, "unsafe { f() }\n").len(), 1);
    let with = "// SAFETY: the descriptor is ours\n// until the end.\nunsafe { f() }\n";
    assert!(errors_of(path, with).is_empty());
}

#[test]
fn long_files_and_functions_are_found_and_tests_are_not_counted() {
    let body = "    f();\n".repeat(80);
    let long = format!("fn long() {{\n{body}}}\n");
    assert!(errors_of("crates/hub/src/x.rs", &long)[0].contains("fn long: 82 lines of code"));
    let test = format!("#[cfg(test)]\nmod tests {{\n{long}}}\n");
    assert!(errors_of("crates/hub/src/x.rs", &test).is_empty());
    let file = "const A: u8 = 1;\n".repeat(501);
    assert!(errors_of("crates/hub/src/x.rs", &file)[0].contains("501 lines of code"));
    assert!(errors_of("crates/hub/tests/x.rs", &file).is_empty());
    assert!(
        errors_of("crates/hub/src/x.rs", &format!("// {}\n", "x".repeat(98)))[0].contains("101")
    );
}

#[test]
fn what_a_layer_may_not_know_is_found() {
    assert_eq!(
        errors_of("crates/sse/src/x.rs", "use std::io::Read;\n").len(),
        1
    );
    assert_eq!(
        errors_of("crates/log/src/x.rs", "use hyper::Body;\n").len(),
        1
    );
    assert!(errors_of("crates/log/src/x.rs", "use std::io::Read; // not http\n").is_empty());
}

#[test]
fn marks_of_unfinished_work_are_found() {
    let marker = concat!("TO", "DO");
    assert_eq!(errors_of("a.rs", &format!("// {marker}: later\n")).len(), 1);
    assert!(errors_of("a.rs", &format!("// {marker}(#12): later\n")).is_empty());
    assert!(errors_of("a.rs", &format!("// {marker}S is a word\n")).is_empty());
    let channel = concat!("unboun", "ded_channel()");
    assert_eq!(errors_of("a.rs", &format!("let x = {channel};\n")).len(), 1);
}

#[test]
fn markdown_has_one_title_and_no_dead_link() {
    let check = |text: &str| {
        let mut findings = Findings::default();
        markdown::check(&files::root(), Path::new("xtask/x.md"), text, &mut findings);
        findings.errors
    };
    assert!(
        check("# One\n```\n# code\n[x](nowhere)\n```\n[y](src/main.rs#a) `[z](nowhere)`\n")
            .is_empty()
    );
    assert_eq!(check("# One\n# Two\n").len(), 1);
    assert_eq!(check("no title\n").len(), 1);
    assert_eq!(
        check("# One\n[x](nowhere.md)\n[`y`](nowhere.md) [z](https://x/y)\n").len(),
        2
    );
}
