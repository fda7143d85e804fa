use proofline_verifier::verify_statement;
use proptest::prelude::*;

use super::*;

const ORIGIN: &str = "ledger.example/agents";

fn lane() -> VolatileLane {
    let name = LaneName { origin: ORIGIN.to_owned(), collector_id: "gateway".to_owned(), lane: 3 };
    let signer = LaneSigner::new(name, Arc::new(SigningKey::from_bytes(&[7; 32])));
    VolatileLane::at(signer, ChainPosition { epoch: Epoch(2), sequence: Sequence(1), previous: [9; 32], last: (Epoch(1), Sequence(7)) })
}

fn statement(batch: &v1::Batch) -> v1::BatchStatement {
    v1::BatchStatement {
        public_key: batch.public_key.clone(),
        collector_id: batch.collector_id.clone(),
        lane: batch.lane,
        epoch: batch.epoch,
        sequence: batch.sequence,
        previous: batch.previous.clone(),
        event_count: batch.events.len() as u32,
        events_root: proofline_verifier::TreeHash::as_bytes(&events_root(&batch.events)).to_vec(),
        signature: batch.signature.clone(),
    }
}

proptest! {
    #[test]
    fn every_chain_that_a_lane_signs_verifies(batches in proptest::collection::vec(
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..9), 1..9,
    )) {
        let mut lane = lane();
        let mut previous = vec![9; 32];
        for (events, sequence) in batches.into_iter().zip(1..) {
            let batch = lane.sign(events.into_iter().map(Bytes::from).collect()).unwrap();
            prop_assert_eq!((batch.epoch, batch.sequence), (2, sequence));
            prop_assert_eq!(&batch.previous, &previous);
            let digest = verify_statement(ORIGIN, &statement(&batch)).unwrap();
            previous = digest.as_bytes().to_vec();
        }
    }
}

#[test]
fn a_batch_is_bound_to_its_origin() {
    let batch = lane().sign(vec![Bytes::from_static(b"event")]).unwrap();
    assert!(verify_statement("other.example/agents", &statement(&batch)).is_err());
}

#[test]
fn a_batch_that_is_too_large_uses_no_place_up() {
    let mut lane = lane();
    let events = vec![Bytes::from_static(b""); BATCH_EVENTS_MAX + 1];
    assert!(matches!(lane.sign(events), Err(LaneError::TooLarge { .. })));
    assert_eq!(lane.next().sequence, Sequence(1));
}
