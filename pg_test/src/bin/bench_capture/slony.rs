//! One node of a Slony-I cluster, as `slonik` makes it: its schema from the SQL files of Debian's
//! package, the node initialized, a set with one table. No `slon` runs; the log trigger does not
//! need one.

use std::fs;
use std::path::PathBuf;

use pg_test::installation;

/// Slony prefixes it with an underscore to get the name of its schema.
const CLUSTER: &str = "bench";

/// Where the log trigger writes, as long as no daemon has the node switch to the other log.
pub const LOG: &str = "_bench.sl_log_1";

/// Statements that make the node and replicate `table` by its primary key.
pub fn setup(table: &str) -> Result<String, String> {
    let (folder, version) = find()?;
    let mut statements = String::from("SET search_path TO public;\n");
    statements.push_str(&format!("CREATE SCHEMA \"_{CLUSTER}\";\n"));
    // What slonik takes for every PostgreSQL since 8.4.
    for part in ["slony1_base.v84", "slony1_base", "slony1_funcs", "slony1_funcs.v84"] {
        let path = folder.join(format!("{part}.{version}.sql"));
        let text = fs::read_to_string(&path)
            .map_err(|error| format!("could not read {}: {error}", path.display()))?;
        statements.push_str(&fill_in(&text, &version));
    }
    statements.push_str(&format!(
        r#"
        SELECT "_{CLUSTER}".initializeLocalNode(1, 'origin');
        SELECT "_{CLUSTER}".enableNode(1);
        SELECT "_{CLUSTER}".storeSet(1, 'what is measured');
        SELECT "_{CLUSTER}".setAddTable(1, 1, 'public.{table}', '{table}_pkey', 'one table');
        RESET search_path;
        "#
    ));
    Ok(statements)
}

/// The folder of the SQL files, beside PostgreSQL's, and the version in their names.
fn find() -> Result<(PathBuf, String), String> {
    let folder = installation::directory("--sharedir").join("../../slony1");
    let names = fs::read_dir(&folder).into_iter().flatten().flatten();
    let versions = names.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let version = name.strip_prefix("slony1_base.")?.strip_suffix(".sql")?;
        version.starts_with(|letter: char| letter.is_ascii_digit()).then(|| version.to_owned())
    });
    let library = |version: &String| format!("slony1_funcs.{version}.so");
    let libraries = installation::directory("--pkglibdir");
    versions
        .filter(|version| libraries.join(library(version)).exists())
        .max()
        .map(|version| (folder, version))
        .ok_or_else(|| "not installed".to_owned())
}

/// The places that slonik fills in.
fn fill_in(text: &str, version: &str) -> String {
    text.replace("@NAMESPACE@", &format!("\"_{CLUSTER}\""))
        .replace("@CLUSTERNAME@", CLUSTER)
        .replace("@MODULEVERSION@", version)
        .replace("@FUNCVERSION@", &format!("{}_", version.replace('.', "_")))
}
