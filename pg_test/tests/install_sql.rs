//! The SQL that CREATE EXTENSION runs is written by hand; what its functions are in the library, pgrx's macros note
//! in a section of each object file. The two must say the same: a wrong type would crash a backend.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use pgrx_sql_entity_graph::section::{ELF_SECTION_NAME, decode_entities};
use pgrx_sql_entity_graph::{ControlFile, PgrxSql, SqlGraphEntity};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where the repository is.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The script of this version.
fn script() -> String {
    read(&root().join(format!("sql/amqp_cdc--{VERSION}.sql")))
}

/// What the macros noted, of all object files of the library that cargo has built last.
fn noted_section() -> Vec<u8> {
    let test = env::current_exe().expect("a test knows where it is");
    let target = test.parent().and_then(Path::parent).expect("it is in target/release/deps");
    let library = target.join("libamqp_cdc.rlib");
    assert!(library.exists(), "{} is missing: run `make build` first", library.display());
    let folder = target.join("install_sql_test");
    fs::create_dir_all(&folder).expect("a folder in target can be made");
    let (whole, section) = (folder.join("library.o"), folder.join("section"));
    run(Command::new("ld").args(["-r", "--whole-archive", "-o"]).arg(&whole).arg(&library));
    let only = format!("--only-section={ELF_SECTION_NAME}");
    run(Command::new("objcopy").args(["-O", "binary", &only]).arg(&whole).arg(&section));
    fs::read(&section).expect("objcopy wrote the section")
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The statements that make functions, each as its words: without comments, quotes, and the case of letters.
fn functions(sql: &str) -> BTreeSet<String> {
    let mut bare = String::new();
    let mut rest = sql;
    while let Some((before, comment)) = rest.split_once("/*") {
        bare += before;
        rest = comment.split_once("*/").map_or("", |(_, after)| after);
    }
    bare += rest;
    let lines = bare.lines().map(|line| line.split("--").next().unwrap_or_default());
    let text = lines.collect::<Vec<_>>().join(" ").replace('"', "").to_lowercase();
    let text = text.replace('(', " ( ").replace(')', " ) ").replace(',', " , ");
    text.split(';')
        .map(|statement| statement.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|statement| statement.starts_with("create function"))
        .collect()
}

#[test]
fn every_function_that_pgrx_wraps_is_declared_as_its_macros_say() {
    let section = noted_section();
    let control = ControlFile::from_str(&read(&root().join("amqp_cdc.control")))
        .expect("pgrx reads the control file");
    let noted = decode_entities(&section).expect("pgrx reads what its macros wrote");
    let entities = [SqlGraphEntity::ExtensionRoot(control)].into_iter().chain(noted);
    let graph = PgrxSql::build(entities, "amqp_cdc".to_owned(), false);
    let expected = functions(&graph.and_then(|graph| graph.to_sql()).expect("pgrx makes SQL"));
    assert!(expected.len() >= 4, "{expected:#?}");

    let declared: BTreeSet<String> = functions(&script())
        .into_iter()
        .filter(|statement| statement.ends_with("_wrapper'"))
        .collect();
    assert_eq!(declared, expected);
}

#[test]
fn what_make_installs_is_of_the_version_that_cargo_builds() {
    let control = read(&root().join("amqp_cdc.control"));
    assert!(control.contains(&format!("default_version = '{VERSION}'")), "{control}");
    assert!(script().is_ascii());
    let upgrade = fs::read_dir(root().join("sql")).expect("there is sql/").flatten().any(|file| {
        file.file_name().to_string_lossy().ends_with(&format!("--{VERSION}.sql"))
            && file.file_name().to_string_lossy().matches("--").count() == 2
    });
    assert!(upgrade, "there is no way to {VERSION} from the version before");
}
