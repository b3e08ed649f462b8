//! What a mount answered beside what it should: alike, or what is not.

use wormhole::mount::error::FsError;
use wormhole_protocol::Fault;

/// What differs, if anything does.
pub(crate) type Check = Result<(), String>;

pub(crate) fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: T, expected: T) -> Check {
    if got == expected {
        return Ok(());
    }
    Err(format!("{what} is {got:?}, should be {expected:?}"))
}

/// Long contents are not printed.
pub(crate) fn same_bytes(what: &str, got: &[u8], expected: &[u8]) -> Check {
    if got == expected {
        return Ok(());
    }
    let at = got.iter().zip(expected).take_while(|(a, b)| a == b).count();
    let (got, expected) = (got.len(), expected.len());
    Err(format!(
        "{what}: {got} bytes instead of {expected}, different from {at} on"
    ))
}

/// The same outcome; what came of success.
pub(crate) fn agree<T, U: std::fmt::Debug>(
    got: Result<T, FsError>,
    expected: Result<U, Fault>,
) -> Result<Option<(T, U)>, String> {
    match (got, expected) {
        (Ok(got), Ok(expected)) => Ok(Some((got, expected))),
        (Err(FsError::Fault(got)), Err(expected)) if got == expected => Ok(None),
        (Err(got), expected) => Err(format!("failed with {got:?}, should be {expected:?}")),
        (Ok(_), Err(expected)) => Err(format!("worked, should fail with {expected:?}")),
    }
}
