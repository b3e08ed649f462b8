//! What every fuzz target of a frame checks.

use std::fmt::Debug;
use wormhole_protocol::codec::Wire;
use wormhole_protocol::limits::FRAME_PREFIX_BYTES;

/// Decodes `body`; a value that comes out can be sent again and arrives equal.
pub fn check<T: Wire + PartialEq + Debug>(body: &[u8]) {
    let Ok(value) = T::from_body(body) else {
        return;
    };
    let frame = value.to_frame().expect("what was received can be sent");
    let again = T::from_body(&frame[FRAME_PREFIX_BYTES..]);
    assert_eq!(again.as_ref(), Ok(&value));
}
