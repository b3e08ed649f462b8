//! Fuzzes the decoder of `TreeFrame`.

#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    wormhole_protocol_fuzz::check::<wormhole_protocol::TreeFrame>(body);
});
