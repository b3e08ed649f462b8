//! What a sender's kernel leaves to its card: cutting what is long into packets, and checksums.
//!
//! A card that says it can is handed up to 64 KiB of one flow as one [`Frame`], to be cut (segmentation
//! offload; TSO for TCP, USO for UDP). A link carries packets, so a frame is cut into them before anything
//! is decided about any, each with headers of its own as a card would send it. Those of one frame that leave
//! side by side at one time are handed to the receiver's kernel in one [`Batch`], as receiving cards do
//! (GRO). So a packet of a long transfer costs a copy, not two system calls and two walks through the network
//! stack. A checksum the sender has not filled in is left like that: no bit is turned on this way, and the
//! receiver's kernel knows that it need not look.
//!
//! Sources: virtio 1.2, 5.1.6 (`virtio_net_hdr`, here with the machine's own byte order); the kernel's
//! `include/uapi/linux/virtio_net.h`, Documentation/networking/segmentation-offloads.rst; RFC 791, 768, 8200
//! and 9293 for the headers.
//!
//! Invariants
//! - A packet holds what a card would have sent, but for a checksum of TCP or UDP that is left to do.
//! - Cut and put together again, a frame is what it was.
//! - Nothing here trusts a length: a frame whose header does not fit its bytes is none.

#[cfg(test)]
mod tests;

use crate::delay_line::Packet;
use rustix::io::writev;
use std::io::IoSlice;
use std::os::fd::OwnedFd;

/// What stands before every packet read or written: a `virtio_net_hdr`.
const HEADER_BYTES: usize = 10;
/// The most that is read at a time: the header and the longest IP packet.
pub(super) const FRAME_BYTES_MAX: usize = HEADER_BYTES + 65_535;
/// Packets handed over as one, at most: as many as any kernel takes of UDP (`UDP_MAX_SEGMENTS` is 64, and
/// 128 since 6.9).
const BATCH_PACKETS_MAX: usize = 64;
/// Headers of IP and of what it carries: 60 bytes each, at most.
const HEADERS_BYTES_MAX: usize = 120;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum begun, of the pseudo-header, stands where the checksum is to be.
const NEEDS_CHECKSUM: u8 = 1;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const TCP_FIN: u8 = 0x01;
const TCP_PSH: u8 = 0x08;

/// What has to be known of a packet when it leaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Note {
    checksum: Option<Checksum>,
    part: Option<Part>,
}

/// A checksum that nobody has filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Checksum {
    /// Where in the packet the bytes begin that it is of.
    start: u16,
    /// Where from there it stands.
    offset: u16,
}

/// Which part of a longer frame a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    frame: u64,
    index: usize,
    layout: Layout,
}

/// How a frame that is to be cut is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    carries: Carries,
    /// Where the headers of TCP or UDP begin.
    transport: usize,
    /// Where data begins.
    data: usize,
    /// Data in each packet but the last.
    segment: usize,
}

/// What a frame carries, by the numbers that `virtio_net_hdr` has for it (`gso_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Carries {
    TcpOverIpv4 = 1,
    TcpOverIpv6 = 4,
    Udp = 5,
}

/// What was read at once: a packet, or one that is to be cut into several.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    number: u64,
    bytes: &'a [u8],
    checksum: Option<Checksum>,
    layout: Option<Layout>,
}

impl<'a> Frame<'a> {
    /// What `read` holds, header and all. Each frame has its own `number`.
    pub(super) fn parse(number: u64, read: &'a [u8]) -> Option<Self> {
        let (header, bytes) = read.split_first_chunk::<HEADER_BYTES>()?;
        let [flags, kind, _, _, s0, s1, c0, c1, o0, o1] = *header;
        let checksum = (flags & NEEDS_CHECKSUM != 0).then(|| Checksum {
            start: u16::from_ne_bytes([c0, c1]),
            offset: u16::from_ne_bytes([o0, o1]),
        });
        let segment = usize::from(u16::from_ne_bytes([s0, s1]));
        let layout = match kind {
            0 => None,
            kind => Some(Layout::of(kind, segment, checksum?.start.into(), bytes)?),
        };
        Some(Self {
            number,
            bytes,
            checksum,
            layout,
        })
    }

    /// How many packets it is.
    pub(super) fn packets(&self) -> usize {
        self.layout.map_or(1, |layout| {
            (self.bytes.len() - layout.data).div_ceil(layout.segment)
        })
    }

    /// How long packet `index` is, headers and all.
    pub(super) fn packet_bytes(&self, index: usize) -> usize {
        self.layout.map_or(self.bytes.len(), |layout| {
            layout.data + self.data(layout, index).len()
        })
    }

    fn data(&self, layout: Layout, index: usize) -> &'a [u8] {
        let from = layout.data + index * layout.segment;
        let to = (from + layout.segment).min(self.bytes.len());
        self.bytes.get(from..to).unwrap_or_default()
    }

    /// Writes packet `index` into `packet`; whether it has room.
    pub(super) fn cut(&self, index: usize, packet: &mut Packet<Note>) -> bool {
        let length = self.packet_bytes(index);
        let last = index + 1 == self.packets();
        let Some(to) = packet.buffer_mut().get_mut(..length) else {
            return false;
        };
        let part = match self.layout {
            None => {
                to.copy_from_slice(self.bytes);
                None
            }
            Some(layout) => {
                let (headers, data) = to.split_at_mut(layout.data);
                headers.copy_from_slice(&self.bytes[..layout.data]);
                data.copy_from_slice(self.data(layout, index));
                layout.cut_headers(headers, index, data.len(), last);
                Some(Part {
                    frame: self.number,
                    index,
                    layout,
                })
            }
        };
        packet.set_len(length);
        packet.note = Note {
            checksum: self.checksum,
            part,
        };
        true
    }
}

impl Layout {
    /// How `bytes` are made, if they are what the rest says.
    fn of(kind: u8, segment: usize, transport: usize, bytes: &[u8]) -> Option<Self> {
        let first = *bytes.first()?;
        let (carries, version) = match kind {
            1 => (Carries::TcpOverIpv4, 4),
            4 => (Carries::TcpOverIpv6, 6),
            5 => (Carries::Udp, first >> 4),
            _ => return None,
        };
        let ip = match version {
            4 => usize::from(first & 15) * 4,
            6 => 40,
            _ => return None,
        };
        let (headers, headers_min) = match carries {
            Carries::Udp => (8, 8),
            _ => (usize::from(bytes.get(transport + 12)? >> 4) * 4, 20),
        };
        let data = transport + headers;
        let sane = first >> 4 == version
            && ip >= 20
            && ip == transport
            && headers >= headers_min
            && data < bytes.len()
            && segment > 0;
        sane.then_some(Self {
            carries,
            transport,
            data,
            segment,
        })
    }

    /// Makes a frame's `headers` those of its packet `index`, with `data` bytes.
    fn cut_headers(&self, headers: &mut [u8], index: usize, data: usize, last: bool) {
        let (ip, transport) = headers.split_at_mut(self.transport);
        if ip[0] >> 4 == 4 {
            add16(&mut ip[4..6], index);
        }
        if self.carries != Carries::Udp {
            add32(&mut transport[4..8], index * self.segment);
            if !last {
                transport[13] &= !(TCP_FIN | TCP_PSH);
            }
        }
        self.set_lengths(ip, transport, data);
    }

    /// Writes into the headers what depends on how much `data` follows: lengths, and the checksums of what
    /// says so.
    fn set_lengths(&self, ip: &mut [u8], transport: &mut [u8], data: usize) {
        let carried = transport.len() + data;
        if ip[0] >> 4 == 4 {
            let whole = ip.len() + carried;
            put16(&mut ip[2..4], whole);
            put16(&mut ip[10..12], 0);
            let sum = !fold(sum16(ip));
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            put16(&mut ip[4..6], carried);
        }
        let addresses = match ip[0] >> 4 {
            4 => &ip[12..20],
            _ => &ip[8..40],
        };
        let (protocol, field) = match self.carries {
            Carries::Udp => {
                put16(&mut transport[4..6], carried);
                (PROTOCOL_UDP, 6)
            }
            _ => (PROTOCOL_TCP, 16),
        };
        // The pseudo-header's, not inverted: the kernel's own beginning of a checksum nobody filled in.
        let sum = fold(sum16(addresses) + u32::from(protocol) + u32::from(low16(carried)));
        transport[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Packets that are handed over together: one, or several of one frame that follow each other.
#[derive(Debug, Default)]
pub(super) struct Batch {
    packets: Vec<Packet<Note>>,
}

impl Batch {
    /// Whether `packet` may be handed over with those in here.
    pub(super) fn takes(&self, packet: &Packet<Note>) -> bool {
        let Some(last) = self.packets.last() else {
            return true;
        };
        let (Some(last), Some(part)) = (last.note.part, packet.note.part) else {
            return false;
        };
        last.frame == part.frame
            && last.index + 1 == part.index
            && self.packets.len() < BATCH_PACKETS_MAX
    }

    pub(super) fn push(&mut self, packet: Packet<Note>) {
        self.packets.push(packet);
    }

    /// Hands them to `device`, and out again.
    pub(super) fn write(&mut self, device: &OwnedFd) -> impl Iterator<Item = Packet<Note>> + '_ {
        // A full or absent receiver loses them, as a network does.
        match self.packets.as_slice() {
            [] => {}
            [packet] => {
                let header = header(&packet.note, None);
                let _ = writev(device, &[IoSlice::new(&header), IoSlice::new(packet)]);
            }
            [first, ..] => {
                if let Some(Part { layout, .. }) = first.note.part {
                    self.write_joined(device, layout);
                }
            }
        }
        self.packets.drain(..)
    }

    fn write_joined(&self, device: &OwnedFd, layout: Layout) {
        let mut slices = [IoSlice::new(&[]); BATCH_PACKETS_MAX + 2];
        let mut headers = [0; HEADERS_BYTES_MAX];
        let Some(headers) = self.join_headers(layout, &mut headers) else {
            return;
        };
        let before = header(&self.packets[0].note, Some(layout));
        slices[0] = IoSlice::new(&before);
        slices[1] = IoSlice::new(headers);
        for (slice, packet) in slices[2..].iter_mut().zip(&self.packets) {
            *slice = IoSlice::new(&packet[layout.data..]);
        }
        let _ = writev(device, &slices[..self.packets.len() + 2]);
    }

    /// The headers of all packets as one.
    fn join_headers<'a>(
        &self,
        layout: Layout,
        headers: &'a mut [u8; HEADERS_BYTES_MAX],
    ) -> Option<&'a [u8]> {
        let (first, last) = (self.packets.first()?, self.packets.last()?);
        let headers = headers.get_mut(..layout.data)?;
        headers.copy_from_slice(first.get(..layout.data)?);
        let data = self
            .packets
            .iter()
            .map(|packet| packet.len() - layout.data)
            .sum();
        let (ip, transport) = headers.split_at_mut(layout.transport);
        if layout.carries != Carries::Udp {
            transport[13] |= last.get(layout.transport + 13)? & (TCP_FIN | TCP_PSH);
        }
        layout.set_lengths(ip, transport, data);
        Some(headers)
    }
}

/// What stands before a packet with `note`, or before several with one `layout`.
fn header(note: &Note, layout: Option<Layout>) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    if let Some(Checksum { start, offset }) = note.checksum {
        header[0] = NEEDS_CHECKSUM;
        header[6..8].copy_from_slice(&start.to_ne_bytes());
        header[8..10].copy_from_slice(&offset.to_ne_bytes());
    }
    if let Some(layout) = layout {
        header[1] = layout.carries as u8;
        header[2..4].copy_from_slice(&low16(layout.data).to_ne_bytes());
        header[4..6].copy_from_slice(&low16(layout.segment).to_ne_bytes());
    }
    header
}

/// Lengths here are of what fits an IP packet, so nothing is cut off.
fn low16(value: usize) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

fn put16(field: &mut [u8], value: usize) {
    field.copy_from_slice(&low16(value).to_be_bytes());
}

/// Adds to a number that begins anew after its last.
fn add16(field: &mut [u8], more: usize) {
    let value = u16::from_be_bytes([field[0], field[1]]);
    field.copy_from_slice(&value.wrapping_add(low16(more)).to_be_bytes());
}

/// As [`add16`], of 32 bits.
fn add32(field: &mut [u8], more: usize) {
    let value = u32::from_be_bytes([field[0], field[1], field[2], field[3]]);
    let more = u32::try_from(more).unwrap_or_default();
    field.copy_from_slice(&value.wrapping_add(more).to_be_bytes());
}

/// The sum of 16-bit words.
fn sum16(bytes: &[u8]) -> u32 {
    bytes
        .chunks_exact(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum()
}

/// A sum of such words as one: what is carried over is added (RFC 1071).
fn fold(mut sum: u32) -> u16 {
    loop {
        match u16::try_from(sum) {
            Ok(sum) => return sum,
            Err(_) => sum = (sum & 0xffff) + (sum >> 16),
        }
    }
}
