//! Frames made by hand, cut, put together again, and read back from a socket in place of a device.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use super::*;
use crate::delay_line::DelayLine;
use proptest::prelude::*;
use std::os::unix::net::UnixDatagram;

const MTU: usize = 1500;
const TCP_ACK: u8 = 0x10;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Kind {
    version: u8,
    tcp: bool,
}

impl Kind {
    fn headers(self) -> (usize, usize) {
        let ip = if self.version == 4 { 24 } else { 40 };
        (ip, if self.tcp { 32 } else { 8 })
    }

    fn number(self) -> u8 {
        match (self.tcp, self.version) {
            (true, 4) => 1,
            (true, _) => 4,
            (false, _) => 5,
        }
    }
}

fn any_kind() -> impl Strategy<Value = Kind> {
    (prop::sample::select(vec![4, 6]), any::<bool>())
        .prop_map(|(version, tcp)| Kind { version, tcp })
}

/// What a kernel hands over: `data` bytes of one flow, to be cut into packets with `segment` bytes each.
fn handed_over(kind: Kind, data: usize, segment: u16) -> Vec<u8> {
    let (ip_bytes, transport_bytes) = kind.headers();
    let mut ip = vec![0; ip_bytes];
    let mut transport = vec![0; transport_bytes];
    for (index, byte) in ip.iter_mut().chain(&mut transport).enumerate() {
        *byte = u8::try_from(index * 7 % 256).unwrap();
    }
    ip[0] = kind.version << 4 | if kind.version == 4 { 6 } else { 0 };
    if kind.tcp {
        transport[12] = 8 << 4;
        transport[13] = TCP_ACK | TCP_PSH | TCP_FIN;
        transport[4..8].copy_from_slice(&0xffff_fff0_u32.to_be_bytes());
    }
    let layout = Layout {
        carries: match kind.number() {
            1 => Carries::TcpOverIpv4,
            4 => Carries::TcpOverIpv6,
            _ => Carries::Udp,
        },
        transport: ip_bytes,
        data: ip_bytes + transport_bytes,
        segment: segment.into(),
    };
    layout.set_lengths(&mut ip, &mut transport, data);
    let offset: u16 = if kind.tcp { 16 } else { 6 };
    let mut read = vec![NEEDS_CHECKSUM, kind.number()];
    let lengths = [ip_bytes + transport_bytes, segment.into(), ip_bytes];
    read.extend(lengths.iter().flat_map(|v| low16(*v).to_ne_bytes()));
    read.extend(offset.to_ne_bytes());
    read.extend(ip);
    read.extend(transport);
    read.extend((0..data).map(|index| u8::try_from(index * 13 % 251).unwrap()));
    read
}

/// The packets of what was read as frame `number`.
fn packets(number: u64, read: &[u8]) -> Vec<Packet<Note>> {
    let mut line = DelayLine::<Note>::new(MTU, 1 << 20);
    let frame = Frame::parse(number, read).unwrap();
    (0..frame.packets())
        .map(|index| {
            let mut packet = line.lend();
            assert!(frame.cut(index, &mut packet));
            assert_eq!(packet.len(), frame.packet_bytes(index));
            packet
        })
        .collect()
}

/// What a device gets of `packets`: those that may be handed over together, together.
fn handed_out(packets: Vec<Packet<Note>>) -> Vec<Vec<u8>> {
    let (device, receiver) = UnixDatagram::pair().unwrap();
    let device = OwnedFd::from(device);
    let mut batch = Batch::default();
    let mut out = Vec::new();
    let mut packets = packets.into_iter().peekable();
    while let Some(packet) = packets.next() {
        batch.push(packet);
        if packets.peek().is_none_or(|next| !batch.takes(next)) {
            let _ = batch.write(&device).count();
            let mut read = vec![0; FRAME_BYTES_MAX];
            let length = receiver.recv(&mut read).unwrap();
            read.truncate(length);
            out.push(read);
        }
    }
    out
}

/// The sum over a packet's TCP or UDP and its pseudo-header, as a receiver forms it, if the checksum that was
/// left to do is done: all ones in a good packet.
fn receivers_sum(packet: &[u8], kind: Kind) -> u16 {
    let (ip_bytes, _) = kind.headers();
    let (ip, rest) = packet.split_at(ip_bytes);
    let mut rest = rest.to_vec();
    let field = if kind.tcp { 16 } else { 6 };
    // The field holds the pseudo-header's sum: together with the rest that is the whole.
    let even = |bytes: &[u8]| [bytes, &[0][..bytes.len() % 2]].concat();
    let done = !fold(sum16(&even(&rest)));
    rest[field..field + 2].copy_from_slice(&done.to_be_bytes());
    let addresses = if kind.version == 4 {
        &ip[12..20]
    } else {
        &ip[8..40]
    };
    let protocol = u32::from(if kind.tcp { PROTOCOL_TCP } else { PROTOCOL_UDP });
    let length = u32::try_from(rest.len()).unwrap();
    fold(sum16(addresses) + protocol + length + sum16(&even(&rest)))
}

#[test]
fn a_packet_by_itself_passes_as_it_is() {
    for header in [[0; HEADER_BYTES], [1, 0, 0, 0, 0, 0, 20, 0, 6, 0]] {
        let read = [&header[..], b"any bytes at all"].concat();
        let packets = packets(1, &read);
        assert_eq!(packets.len(), 1);
        assert_eq!(&*packets[0], b"any bytes at all");
        assert_eq!(handed_out(packets), [read]);
    }
}

#[test]
fn packets_count_up_what_counts_up_and_only_the_last_ends() {
    let kind = Kind {
        version: 4,
        tcp: true,
    };
    let read = handed_over(kind, 2500, 1000);
    let first_id = u16::from_be_bytes([read[HEADER_BYTES + 4], read[HEADER_BYTES + 5]]);
    let packets = packets(1, &read);
    let lengths: Vec<_> = packets.iter().map(|packet| packet.len()).collect();
    assert_eq!(lengths, [1056, 1056, 556]);
    for (index, packet) in (0_u16..).zip(&packets) {
        assert_eq!(
            packet[2..4],
            u16::try_from(packet.len()).unwrap().to_be_bytes()
        );
        assert_eq!(packet[4..6], (first_id + index).to_be_bytes());
        assert_eq!(
            fold(sum16(&packet[..24])),
            u16::MAX,
            "the IP header's checksum"
        );
        let sequence = 0xffff_fff0_u32.wrapping_add(u32::from(index) * 1000);
        assert_eq!(packet[28..32], sequence.to_be_bytes());
        let ends = if index == 2 { TCP_PSH | TCP_FIN } else { 0 };
        assert_eq!(packet[37], TCP_ACK | ends);
    }
}

#[test]
fn only_neighbours_are_handed_over_together() {
    let read = handed_over(
        Kind {
            version: 4,
            tcp: false,
        },
        5_000,
        1_000,
    );
    let mut some = packets(1, &read);
    some.remove(2);
    let lengths: Vec<_> = handed_out(some).iter().map(Vec::len).collect();
    let headers = HEADER_BYTES + 24 + 8;
    assert_eq!(lengths, [headers + 2_000, headers + 2_000]);

    // What overtook is no neighbour of what it passed, nor a packet of what follows it in another frame.
    let two = |first: u64, second: (u64, usize)| {
        let one = packets(first, &read).swap_remove(0);
        let other = packets(second.0, &read).swap_remove(second.1);
        handed_out(vec![one, other]).len()
    };
    assert_eq!(two(1, (1, 1)), 1);
    assert_eq!(two(1, (1, 2)), 2);
    assert_eq!(two(1, (2, 1)), 2);
}

#[test]
fn no_more_are_handed_over_than_a_kernel_takes() {
    let read = handed_over(
        Kind {
            version: 4,
            tcp: false,
        },
        100 * 100,
        100,
    );
    let out = handed_out(packets(1, &read));
    let headers = HEADER_BYTES + 24 + 8;
    let lengths: Vec<_> = out.iter().map(Vec::len).collect();
    assert_eq!(lengths, [headers + 6_400, headers + 3_600]);
}

#[test]
fn a_packet_without_room_is_not_cut() {
    let read = handed_over(
        Kind {
            version: 4,
            tcp: false,
        },
        5_000,
        2_000,
    );
    let frame = Frame::parse(1, &read).unwrap();
    let mut packet = DelayLine::<Note>::new(MTU, 1 << 20).lend();
    assert!(!frame.cut(0, &mut packet));
    assert!(frame.cut(2, &mut packet));
}

#[test]
fn what_is_not_made_as_it_says_is_no_frame() {
    let kind = Kind {
        version: 4,
        tcp: true,
    };
    let good = handed_over(kind, 2_500, 1_000);
    assert!(Frame::parse(1, &good).is_some());
    let with = |at: usize, value: u8| {
        let mut bad = good.clone();
        bad[at] = value;
        Frame::parse(1, &bad).is_some()
    };
    assert!(!with(0, 0), "its checksums would have to be done");
    assert!(!with(1, 3), "fragments of UDP, which nobody offered");
    assert!(!with(1, 4), "IPv6 that is IPv4");
    assert!(!with(6, 20), "TCP within the IP header");
    assert!(!with(7, 255), "TCP beyond the end");
    assert!(!with(HEADER_BYTES, 0x56), "IP version 5");
    assert!(
        !with(HEADER_BYTES + 24 + 12, 4 << 4),
        "a TCP header too short"
    );
    let mut nothing = good.clone();
    nothing[4..6].fill(0);
    assert!(Frame::parse(1, &nothing).is_none(), "packets without data");
    assert!(
        Frame::parse(1, &good[..HEADER_BYTES + 56]).is_none(),
        "no data"
    );
    assert!(Frame::parse(1, &good[..HEADER_BYTES - 1]).is_none());
}

proptest! {
    /// What leaves together is what came, byte by byte; and every packet on the way is a good one.
    #[test]
    fn cut_and_put_together_a_frame_is_what_it_was(
        kind in any_kind(),
        data in 1_usize..20_000,
        segment in 400_u16..1_400,
    ) {
        let read = handed_over(kind, data, segment);
        let packets = packets(1, &read);
        prop_assert_eq!(packets.len(), data.div_ceil(segment.into()));
        for packet in &packets {
            prop_assert_eq!(receivers_sum(packet, kind), u16::MAX);
        }
        if packets.len() > 1 {
            prop_assert_eq!(handed_out(packets), [read]);
        } else {
            // One that needed no cutting is none that is to be cut.
            let out = handed_out(packets).remove(0);
            prop_assert_eq!(&out[HEADER_BYTES..], &read[HEADER_BYTES..]);
            prop_assert_eq!((out[0], out[1]), (NEEDS_CHECKSUM, 0));
        }
    }

    /// Whatever is read, nothing panics, and no packet is longer than it may be.
    #[test]
    fn any_bytes_are_a_frame_or_none(
        kind in any_kind(),
        data in 1_usize..3_000,
        segment in 1_u16..2_000,
        changes in prop::collection::vec((0_usize..120, any::<u8>()), 0..6),
        keep in 0_usize..3_200,
    ) {
        let mut read = handed_over(kind, data, segment);
        for (at, value) in changes {
            if let Some(byte) = read.get_mut(at) {
                *byte = value;
            }
        }
        read.truncate(keep);
        let mut line = DelayLine::<Note>::new(MTU, 1 << 20);
        let Some(frame) = Frame::parse(1, &read) else { return Ok(()) };
        let mut cut = Vec::new();
        for index in 0..frame.packets() {
            let mut packet = line.lend();
            if frame.cut(index, &mut packet) {
                prop_assert!(packet.len() <= MTU);
                cut.push(packet);
            }
        }
        let _ = handed_out(cut);
    }
}
