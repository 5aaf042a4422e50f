//! A pipe that wakes whoever waits for it to become readable; what is in it means nothing. Waking a
//! process or a thread this way costs the one that wakes half of what a signal or a socket does.

use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Result, Write};

use rustix::io::ioctl_fionbio;

/// Both ends, which never block and are closed in programs that are executed.
///
/// # Errors
///
/// If the operating system has no more file descriptors.
pub fn new() -> Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = std::io::pipe()?;
    ioctl_fionbio(&reader, true)?;
    ioctl_fionbio(&writer, true)?;
    Ok((reader, writer))
}

/// Makes the other end readable. Never waits; cannot fail: a full pipe is readable already, and one
/// that nobody reads from has nobody to wake.
pub fn knock(mut writer: &PipeWriter) {
    let _ = writer.write(&[1]);
}

/// Empties the pipe.
pub fn drain(mut reader: &PipeReader) {
    let mut bytes = [0; 16];
    loop {
        match reader.read(&mut bytes) {
            // Nothing is left after less than was asked for.
            Ok(count) if count < bytes.len() => break,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
}
