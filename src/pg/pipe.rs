//! A pipe that wakes whoever waits for it to become readable; what is in it means nothing. What it gains,
//! [`super::shared`] tells.

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

/// Makes the other end readable, without waiting. Returns whether it is so now; it is not if the operating
/// system has no memory left.
pub fn knock(mut writer: &PipeWriter) -> bool {
    match writer.write_all(&[1]) {
        Ok(()) => true,
        // A full pipe is readable already.
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
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
