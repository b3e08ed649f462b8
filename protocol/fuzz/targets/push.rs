//! Fuzzes the decoder of `Push`.

#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    wormhole_protocol_fuzz::check::<wormhole_protocol::Push>(body);
});
