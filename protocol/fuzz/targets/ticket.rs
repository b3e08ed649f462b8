//! Fuzzes the reader of tickets.

#![no_main]

use wormhole_protocol::Ticket;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(ticket) = text.parse::<Ticket>() {
        assert_eq!(ticket.to_string().parse(), Ok(ticket));
    }
});
