//! As much of IPv4 and TCP as the switch needs: who a packet is for, and how to alter its payload so that TCP believes it.

use std::net::Ipv4Addr;

use crate::random::Random;

const TCP: u8 = 6;

/// Returns to whom an IPv4 packet goes; `None` when it is none.
pub(super) fn destination(packet: &[u8]) -> Option<Ipv4Addr> {
    let version = packet.first()? >> 4;
    let octets: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    (version == 4).then(|| Ipv4Addr::from(octets))
}

/// Flips one bit of the payload of a TCP segment and makes its checksum right again, so that the bytes reach whoever listens.
/// Returns whether there was a payload to alter.
pub(super) fn alter(packet: &mut [u8], random: &mut Random) -> bool {
    alter_payload(packet, random).is_some()
}

fn alter_payload(packet: &mut [u8], random: &mut Random) -> Option<()> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    if *packet.get(9)? != TCP {
        return None;
    }
    let payload = header + usize::from(packet.get(header + 12)? >> 4) * 4;
    let length = packet.len().checked_sub(payload).filter(|length| *length > 0)?;
    let at = payload + random.place(length);
    *packet.get_mut(at)? ^= 1 << random.below(8);
    let checksum = header + 16;
    packet.get_mut(checksum..checksum + 2)?.fill(0);
    let sum = tcp_checksum(packet, header)?;
    packet.get_mut(checksum..checksum + 2)?.copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// RFC 9293, section 3.1: the ones' complement of the sum of pseudo header and segment.
fn tcp_checksum(packet: &[u8], header: usize) -> Option<u16> {
    let segment = packet.get(header..)?;
    let mut sum = u32::from(TCP) + u32::try_from(segment.len()).ok()?;
    for pair in packet.get(12..20)?.chunks(2).chain(segment.chunks(2)) {
        let (high, low) = (pair.first().copied().unwrap_or(0), pair.get(1).copied().unwrap_or(0));
        sum += u32::from(u16::from_be_bytes([high, low]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).ok().map(|sum| !sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 20 bytes of IPv4, 20 bytes of TCP, a payload.
    fn segment(payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0_u8; 40];
        packet[0] = 0x45;
        packet[9] = TCP;
        packet[12..16].copy_from_slice(&[10, 77, 0, 1]);
        packet[16..20].copy_from_slice(&[10, 77, 0, 2]);
        packet[32] = 5 << 4;
        packet.extend_from_slice(payload);
        let sum = tcp_checksum(&packet, 20).unwrap();
        packet[36..38].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    #[test]
    fn an_altered_segment_differs_in_one_bit_of_its_payload_and_its_checksum_holds() {
        let original = segment(b"an odd payload!");
        let mut altered = original.clone();
        assert!(alter(&mut altered, &mut Random::of(1, "test")));
        let flipped: u32 = original[40..].iter().zip(&altered[40..]).map(|(one, other)| (one ^ other).count_ones()).sum();
        assert_eq!(flipped, 1);
        // A segment whose checksum is right sums up to zero.
        assert_eq!(tcp_checksum(&altered, 20), Some(0));
        assert_eq!(original[..36], altered[..36]);
    }

    #[test]
    fn what_has_no_payload_is_left_alone() {
        let mut packet = segment(b"");
        assert!(!alter(&mut packet, &mut Random::of(1, "test")));
        assert_eq!(packet, segment(b""));
    }

    #[test]
    fn only_ipv4_has_a_destination() {
        assert_eq!(destination(&segment(b"x")), Some(Ipv4Addr::new(10, 77, 0, 2)));
        assert_eq!(destination(&[0x60; 40]), None);
        assert_eq!(destination(&[0x45; 10]), None);
    }
}
