//! Which file of a crate imports which.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::words::{self, Word, says};

/// Names from the root of the crate on.
type Path<'a> = Vec<&'a str>;

/// A module: a file, or a part of one in braces.
#[derive(Default)]
struct Module<'a> {
    file: &'a str,
    children: BTreeSet<&'a str>,
    /// The names that it uses, and what they stand for.
    names: BTreeMap<&'a str, Path<'a>>,
}

/// A path that some file names.
struct Mention<'a> {
    file: &'a str,
    module: Path<'a>,
    path: Path<'a>,
    line: usize,
}

/// The imports between the files of a crate: who imports whom, and in which line first.
pub type Imports = BTreeMap<String, BTreeMap<String, usize>>;

/// The imports in a crate of these files, whose root is in this folder.
pub fn imports(folder: &str, files: &[(&str, &str)]) -> Imports {
    let mut modules = BTreeMap::new();
    let mut mentions = Vec::new();
    for &(file, text) in files {
        scan(file, module_of(folder, file), &words::of(text), &mut modules, &mut mentions);
    }
    let mut imports = Imports::new();
    for mention in &mentions {
        if let Some(found) = resolve(&modules, &mention.module, &mention.path, 0)
            && found != mention.file
        {
            let of_file = imports.entry(mention.file.to_owned()).or_default();
            of_file.entry(found.to_owned()).or_insert(mention.line);
        }
    }
    imports
}

/// The path of the module that a file holds.
fn module_of<'a>(folder: &str, file: &'a str) -> Path<'a> {
    let inner = file[folder.len()..].trim_start_matches('/').trim_end_matches(".rs");
    let mut path: Path = inner.split('/').collect();
    if matches!(path.last(), Some(&("mod" | "lib" | "main"))) {
        path.pop();
    }
    path
}

fn scan<'a>(
    file: &'a str,
    root: Path<'a>,
    words: &[Word<'a>],
    modules: &mut BTreeMap<Path<'a>, Module<'a>>,
    mentions: &mut Vec<Mention<'a>>,
) {
    let mut module = root;
    modules.entry(module.clone()).or_default().file = file;
    // How deep in braces the module is, and those around it.
    let (mut depth, mut around) = (0, Vec::new());
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let mut mention = |path: Path<'a>| {
            mentions.push(Mention { file, module: module.clone(), path, line: word.line });
        };
        let next = |offset: usize| words.get(at + offset).map_or("", |word| word.text);
        let is_path =
            is_name(word.text) && next(1) == "::" && (at == 0 || words[at - 1].text != "::");
        if word.text == "mod" && matches!(next(2), "{" | ";") {
            let name = next(1);
            modules.entry(module.clone()).or_default().children.insert(name);
            if next(2) == "{" {
                around.push(depth);
                depth += 1;
                module.push(name);
                modules.entry(module.clone()).or_default().file = file;
            }
            at += 3;
        } else if word.text == "use" {
            let mut used = Vec::new();
            at += 1 + use_tree(&words[at + 1..], &[], &mut used);
            for (name, path) in used {
                mention(path.clone());
                modules.entry(module.clone()).or_default().names.insert(name, path);
            }
        } else if is_path {
            let mut path = vec![word.text];
            while says(&words[at + 1..], &["::"]) && is_name(next(2 * path.len())) {
                path.push(next(2 * path.len()));
                if words.get(at + 2 * path.len() - 1).is_none_or(|word| word.text != "::") {
                    break;
                }
            }
            at += 2 * path.len() - 1;
            mention(path);
        } else {
            match word.text {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    if around.pop_if(|outer| *outer == depth).is_some() {
                        module.pop();
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Reads what stands behind `use`, or between two commas in its braces: names, and what they stand for. Returns
/// how many words that is.
fn use_tree<'a>(
    words: &[Word<'a>],
    prefix: &[&'a str],
    used: &mut Vec<(&'a str, Path<'a>)>,
) -> usize {
    let mut path = prefix.to_vec();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        at += 1;
        match word.text {
            "::" => {}
            "{" => {
                while words.get(at).is_some_and(|word| word.text != "}") {
                    at += use_tree(&words[at..], &path, used);
                    at += usize::from(says(&words[at..], &[","]));
                }
                return at + 1;
            }
            "*" => {
                used.push(("*", path));
                return at;
            }
            name => {
                if name != "self" || path.is_empty() {
                    path.push(name);
                }
                if !says(&words[at..], &["::"]) {
                    let alias = says(&words[at..], &["as"]).then(|| words[at + 1].text);
                    let name = alias.or(path.last().copied()).unwrap_or_default();
                    used.push((name, path));
                    return at + if alias.is_some() { 2 } else { 0 };
                }
            }
        }
    }
    at
}

/// The file that has what a module calls so. None if that is not in this crate.
fn resolve<'a>(
    modules: &BTreeMap<Path<'a>, Module<'a>>,
    module: &[&'a str],
    path: &[&'a str],
    depth: usize,
) -> Option<&'a str> {
    // Names that stand for each other.
    if depth > 16 {
        return None;
    }
    let (&first, behind) = path.split_first()?;
    let absolute = match first {
        "crate" => behind.to_vec(),
        "self" => [module, behind].concat(),
        "super" => {
            let mut outer = module.to_vec();
            let mut behind = path;
            while let Some((&"super", rest)) = behind.split_first() {
                outer.pop();
                behind = rest;
            }
            [&outer, behind].concat()
        }
        name => {
            let own = modules.get(module)?;
            if own.children.contains(name) {
                [module, path].concat()
            } else {
                let used = own.names.get(name).filter(|used| **used != [name])?;
                return resolve(modules, module, &[used, behind].concat(), depth + 1);
            }
        }
    };
    let mut found: Path = Vec::new();
    for (number, &name) in absolute.iter().enumerate() {
        let here = modules.get(&found)?;
        if here.children.contains(name) {
            found.push(name);
            continue;
        }
        // It is defined here, or elsewhere and known here by name.
        let used = here.names.get(name);
        let elsewhere = used.and_then(|used| {
            let path = [used, &absolute[number + 1..]].concat();
            resolve(modules, &found, &path, depth + 1)
        });
        return elsewhere.or(Some(here.file));
    }
    modules.get(&found).map(|module| module.file)
}

/// The shortest circle from each file that is in one, but for circles of files that are in one that was found
/// before.
pub fn circles(imports: &Imports) -> Vec<Vec<&str>> {
    let mut circles: Vec<Vec<&str>> = Vec::new();
    for file in imports.keys() {
        if let Some(circle) = circle_from(imports, file)
            && !circles.iter().any(|known| known.iter().any(|one| circle.contains(one)))
        {
            circles.push(circle);
        }
    }
    circles
}

/// The shortest way from a file back to itself.
fn circle_from<'a>(imports: &'a Imports, file: &'a str) -> Option<Vec<&'a str>> {
    let mut ways = VecDeque::from([vec![file]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in imports.get(*way.last()?).into_iter().flat_map(BTreeMap::keys) {
            if next == file {
                return Some(way);
            }
            if seen.insert(next) {
                ways.push_back([&way[..], &[next]].concat());
            }
        }
    }
    None
}
