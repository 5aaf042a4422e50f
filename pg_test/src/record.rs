//! Where measurements write what they found: parts of a document between two markers, each of which is written by one
//! program, so that nobody copies figures by hand.
//!
//! ```text
//! <!-- begin chaos: written by `make chaos RECORD=1` -->
//! …
//! <!-- end chaos -->
//! ```

use std::fs;
use std::path::Path;

/// Replaces what stands in `file` between the markers of this name.
///
/// # Errors
/// If the file cannot be read or written, or has not both markers once, in this order.
pub fn replace(file: &Path, name: &str, text: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", file.display());
    let old = fs::read_to_string(file).map_err(failed)?;
    let new = replaced(&old, name, text).map_err(|why| format!("{}: {why}", file.display()))?;
    fs::write(file, new).map_err(failed)
}

fn replaced(document: &str, name: &str, text: &str) -> Result<String, String> {
    let begin = format!("<!-- begin {name}: ");
    let end = format!("<!-- end {name} -->");
    if document.matches(&begin).count() != 1 || document.matches(&end).count() != 1 {
        return Err(format!("has not once each of \"{begin}\" and \"{end}\""));
    }
    let after_begin = document
        .find(&begin)
        .and_then(|at| Some(at + document[at..].find('\n')? + 1))
        .ok_or_else(|| format!("\"{begin}\" ends no line"))?;
    let at_end = document.find(&end).filter(|&at| at >= after_begin);
    let at_end = at_end.ok_or_else(|| format!("\"{end}\" stands before its beginning"))?;
    let (before, after) = (&document[..after_begin], &document[at_end..]);
    Ok(format!("{before}\n{}\n\n{after}", text.trim_matches('\n')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "a\n<!-- begin x: by hand -->\nold\n<!-- end x -->\nb\n";

    #[test]
    fn what_stands_between_the_markers_is_replaced_and_nothing_else() {
        let once = replaced(DOCUMENT, "x", "new\n").unwrap();
        assert_eq!(once, "a\n<!-- begin x: by hand -->\n\nnew\n\n<!-- end x -->\nb\n");
        assert_eq!(replaced(&once, "x", "new").unwrap(), once);
    }

    #[test]
    fn a_document_without_the_markers_is_left_alone() {
        for (document, name) in [
            (DOCUMENT, "y"),
            ("<!-- end x -->\n<!-- begin x: by hand -->\n", "x"),
            ("<!-- begin x: -->\n", "x"),
        ] {
            assert!(replaced(document, name, "new").is_err(), "{document} {name}");
        }
    }
}
