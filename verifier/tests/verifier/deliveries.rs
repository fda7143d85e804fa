//! What nodes sign about messages to outlets, against bytes that are written down a second time.

use ed25519_dalek::Signer as _;
use proofline_proto::v1;
use proofline_verifier::{SignedError, outlet_delivery_signed_bytes, verify_outlet_delivery};

use crate::world::{ORIGIN, START_NS, nodes, text};

fn bytes(of: &v1::OutletDelivery) -> Vec<u8> {
    [
        &text("proofline/outlet-delivery/v1")[..],
        &text(ORIGIN),
        &of.public_key,
        &text(&of.outlet_id),
        &of.containment_id.to_be_bytes(),
        &of.entry_index.to_be_bytes(),
        &of.ordinal.to_be_bytes(),
        &text(&of.jti),
        &(of.result as u32).to_be_bytes(),
        &of.http_status.to_be_bytes(),
        &text(&of.error),
        &of.attempts.to_be_bytes(),
        &of.first_attempt_unix_ns.to_be_bytes(),
        &of.answered_unix_ns.to_be_bytes(),
        &of.node_id.to_be_bytes(),
    ]
    .concat()
}

/// A message that node 1 gave up.
pub(crate) fn dead_letter(entry_index: u64) -> v1::OutletDelivery {
    let mut delivery = v1::OutletDelivery {
        outlet_id: "idp".to_owned(),
        containment_id: 1,
        entry_index,
        ordinal: 2,
        jti: "0123456789abcdef0123456789abcdef".to_owned(),
        result: v1::DeliveryResult::DeadLetter.into(),
        http_status: 400,
        error: "invalid_audience".to_owned(),
        attempts: 3,
        first_attempt_unix_ns: START_NS,
        answered_unix_ns: START_NS + 1,
        node_id: 1,
        public_key: nodes()[0].public(),
        signature: Vec::new(),
    };
    delivery.signature = nodes()[0].key.sign(&bytes(&delivery)).to_bytes().to_vec();
    delivery
}

#[test]
fn the_layout_is_the_one_that_is_written_down() {
    let delivery = dead_letter(12);
    assert_eq!(outlet_delivery_signed_bytes(ORIGIN, &delivery).unwrap(), bytes(&delivery));
    verify_outlet_delivery(ORIGIN, &delivery).unwrap();
}

#[test]
fn a_delivery_that_says_something_else_does_not_verify() {
    let alterations: [fn(&mut v1::OutletDelivery); 13] = [
        |it| it.outlet_id.push('x'),
        |it| it.containment_id += 1,
        |it| it.entry_index += 1,
        |it| it.ordinal += 1,
        |it| it.jti.push('0'),
        |it| it.result = v1::DeliveryResult::Delivered.into(),
        |it| it.http_status = 202,
        |it| it.error.clear(),
        |it| it.attempts += 1,
        |it| it.first_attempt_unix_ns += 1,
        |it| it.answered_unix_ns += 1,
        |it| it.node_id += 1,
        |it| it.public_key = nodes()[1].public(),
    ];
    for (place, alter) in alterations.iter().enumerate() {
        let mut delivery = dead_letter(12);
        alter(&mut delivery);
        assert!(matches!(verify_outlet_delivery(ORIGIN, &delivery), Err(SignedError::Forged { .. })), "alteration {place}");
    }
    assert!(verify_outlet_delivery("another", &dead_letter(12)).is_err());
    let short = v1::OutletDelivery { public_key: vec![1; 31], ..dead_letter(12) };
    assert!(matches!(verify_outlet_delivery(ORIGIN, &short), Err(SignedError::FieldLength { .. })));
}
