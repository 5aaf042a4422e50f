//! The password: where it comes from, and the file that holds it.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::delivery::Secret;

/// The password if none is set: that of RabbitMQ's user guest.
const DEFAULT_PASSWORD: &str = "guest";

/// Where the password comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordSource {
    /// The file that `amqp.password_file` names.
    File,
    /// `amqp.password`.
    Setting,
    /// Neither is set.
    Default,
    /// There is none: a certificate stands for it.
    None,
}

impl PasswordSource {
    /// The word for it in `amqp.status`.
    pub fn as_str(self) -> &'static str {
        match self {
            PasswordSource::File => "file",
            PasswordSource::Setting => "setting",
            PasswordSource::Default => "default",
            PasswordSource::None => "none",
        }
    }
}

/// Returns where the password comes from, given the name of the file and whether amqp.password is set.
pub fn source_of(file: &str, is_set: bool) -> PasswordSource {
    match (file, is_set) {
        ("", false) => PasswordSource::Default,
        ("", true) => PasswordSource::Setting,
        _ => PasswordSource::File,
    }
}

/// Returns the password, from the file of this name or from the setting.
///
/// # Errors
///
/// What is wrong with the file, in words for the operator that hold no secret.
pub fn password(file: &str, setting: Option<CString>) -> Result<Secret, String> {
    match source_of(file, setting.is_some()) {
        PasswordSource::File => read_password(file),
        PasswordSource::Setting | PasswordSource::Default | PasswordSource::None => {
            let text = setting.map(|text| text.to_string_lossy().into_owned());
            Ok(Secret::new(text.unwrap_or_else(|| DEFAULT_PASSWORD.to_owned())))
        }
    }
}

fn read_password(file: &str) -> Result<Secret, String> {
    let problem = |what: &str| format!("amqp.password_file \"{file}\" {what}");
    let metadata = fs::metadata(file).map_err(|e| problem(&format!("cannot be read: {e}")))?;
    if is_open_to_others(metadata.mode(), metadata.uid()) {
        return Err(problem(
            "is accessible to others; its permissions should be 0600, or 0640 if it is root's",
        ));
    }
    let text = fs::read_to_string(file).map_err(|e| problem(&format!("cannot be read: {e}")))?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// As with a key of TLS (libpq's rule): of root's own, as secrets come into a container, the server has to read it as
/// one of its group.
fn is_open_to_others(mode: u32, owner: u32) -> bool {
    let others = if owner == 0 { 0o037 } else { 0o077 };
    mode & others != 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_group_may_read_what_is_root_s() {
        let open = |owner| [0o600, 0o640, 0o644, 0o660].map(|mode| is_open_to_others(mode, owner));
        assert_eq!(open(0), [false, false, true, true]);
        assert_eq!(open(26), [false, true, true, true]);
    }

    #[test]
    fn a_password_file_must_be_private() {
        let path = std::env::temp_dir().join(format!("amqp_cdc-{}", std::process::id()));
        fs::write(&path, "s3cret\n").unwrap();
        let name = path.to_str().unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = password(name, None).unwrap_err();
        assert!(error.contains("0600") && !error.contains("s3cret"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(password(name, None).unwrap(), Secret::new("s3cret".to_owned()));
        fs::remove_file(&path).unwrap();
        assert!(password(name, None).unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn a_file_goes_before_the_setting_and_that_before_the_default() {
        assert_eq!(source_of("file", true), PasswordSource::File);
        assert_eq!(source_of("", true), PasswordSource::Setting);
        assert_eq!(source_of("", false), PasswordSource::Default);
        let secret = |text: &str| Secret::new(text.to_owned());
        assert_eq!(password("", Some(c"s3cret".to_owned())).unwrap(), secret("s3cret"));
        assert_eq!(password("", None).unwrap(), secret("guest"));
    }
}
