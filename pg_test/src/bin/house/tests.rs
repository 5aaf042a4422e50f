//! Houses that are in order, and what each rule finds in one that is not.

use std::collections::BTreeMap;

use crate::rules::problems;

type Files = BTreeMap<String, String>;

/// A house in order, with most of what source can say.
fn house() -> Files {
    let files = [
        ("src/lib.rs", "//! Nothing unsafe; pg_sys.\nmod lsn;\nmod pg;\nmod wal;\n"),
        (
            "src/lsn.rs",
            "pub struct Lsn(pub u64);\nconst QUOTE: char = '\"'; const A: &'static str = r#\"unsafe \"#;\n",
        ),
        ("src/pg/mod.rs", "pub mod slot;\n"),
        (
            "src/pg/slot.rs",
            "use crate::lsn::Lsn;\n#[cfg(feature = \"pg18\")]\nunsafe fn f(_: pgrx::pg_sys::Oid) {}\n",
        ),
        (
            "src/wal/mod.rs",
            "pub mod reader;\nmod queue;\npub use queue::{Queue as Line, Place};\nuse crate::pg::slot;\n",
        ),
        // By the name that the module around it gives it, and not through that module.
        (
            "src/wal/reader.rs",
            "use super::Line;\nfn f() { super::Place::new(); let s = \"crate::wal::mod\"; }\n",
        ),
        (
            "src/wal/queue.rs",
            "pub struct Queue; pub struct Place;\n#[cfg(test)]\nmod tests { use super::*; use crate::wal::reader::R; }\n",
        ),
        ("pg_test/src/lib.rs", "pub mod wait;\n"),
        ("pg_test/src/wait.rs", "pub fn wait() {}\n"),
        (
            "pg_test/src/bin/demo/main.rs",
            "mod page;\nuse pg_test::wait;\nfn main() { page::show() }\n",
        ),
        ("pg_test/src/bin/demo/page.rs", "pub fn show() { println!(\"{}\", 'x'); }\n"),
    ];
    files.into_iter().map(|(file, text)| (file.to_owned(), text.to_owned())).collect()
}

/// What is found after this was added to a file.
fn found(file: &str, added: &str) -> Vec<String> {
    let mut files = house();
    files.entry(file.to_owned()).or_default().push_str(added);
    problems(&files)
}

#[test]
fn a_house_in_order_has_no_problem() {
    assert_eq!(problems(&house()), [""; 0]);
}

#[test]
fn what_belongs_behind_the_door_is_found_elsewhere() {
    let outside = "outside of src/pg/";
    for (added, what) in [
        ("fn g() { unsafe { f() } }", "unsafe"),
        ("use pgrx::pg_sys;", "pg_sys"),
        ("#[cfg(any(feature = \"pg18\"))] fn g() {}", "version of PostgreSQL"),
    ] {
        assert_eq!(
            found("src/wal/queue.rs", added),
            [format!("src/wal/queue.rs:4: {what} {outside}")]
        );
    }
    assert_eq!(
        found("pg_test/src/wait.rs", "unsafe fn g() {}"),
        [format!("pg_test/src/wait.rs:2: unsafe {outside}")]
    );
}

#[test]
fn an_import_out_of_the_door_is_found() {
    let problem = "imports src/wal/queue.rs, which is no leaf";
    for added in [
        "use crate::wal::Line;",
        "fn g() { crate::wal::Place::new() }",
        "use {crate::{lsn, wal::Line as W}};",
    ] {
        assert_eq!(
            found("src/pg/slot.rs", added),
            [format!("src/pg/slot.rs:4: src/pg/ {problem}")]
        );
    }
    assert_eq!(
        found("src/lsn.rs", "use crate::wal::Line;"),
        [format!("src/lsn.rs:3: a leaf {problem}")]
    );
}

#[test]
fn a_circle_of_files_is_found() {
    assert_eq!(
        found("src/wal/queue.rs", "use super::reader::R;"),
        [
            "circle: src/wal/queue.rs:4 imports src/wal/reader.rs, src/wal/reader.rs:1 imports src/wal/queue.rs"
        ]
    );
    assert_eq!(
        found("src/wal/queue.rs", "use super::EVENTS;"),
        [
            "circle: src/wal/mod.rs:3 imports src/wal/queue.rs, src/wal/queue.rs:4 imports src/wal/mod.rs"
        ]
    );
    assert_eq!(
        found("pg_test/src/bin/demo/page.rs", "fn f() { crate::main() }"),
        [
            "circle: pg_test/src/bin/demo/main.rs:3 imports pg_test/src/bin/demo/page.rs, pg_test/src/bin/demo/page.rs:2 imports pg_test/src/bin/demo/main.rs"
        ]
    );
}

#[test]
fn a_file_that_is_too_long_is_found() {
    assert_eq!(found("src/wal/queue.rs", &"\n".repeat(447)), [""; 0]);
    assert_eq!(
        found("src/wal/queue.rs", &"\n".repeat(448)),
        ["src/wal/queue.rs: 451 lines, more than 450"]
    );
}
