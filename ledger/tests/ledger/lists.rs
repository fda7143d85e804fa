//! Every repeated field of an event is bounded: the contract's own description says which there are.

use proofline_ledger::limits::EVENT_LIST_MAX;
use proofline_proto::v1;
use prost::Message;
use prost::bytes::Bytes;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

use crate::world::*;

/// Every way from a message to a repeated field in it.
fn repeated(of: &MessageDescriptor) -> Vec<Vec<FieldDescriptor>> {
    let mut found = Vec::new();
    for field in of.fields() {
        if field.is_list() {
            found.push(vec![field.clone()]);
        }
        if let Kind::Message(inner) = field.kind() {
            found.extend(repeated(&inner).into_iter().map(|rest| [vec![field.clone()], rest].concat()));
        }
    }
    found
}

fn message(of: &FieldDescriptor) -> DynamicMessage {
    match of.kind() {
        Kind::Message(inner) => DynamicMessage::new(inner),
        other => panic!("{other:?} is no message"),
    }
}

/// Sets the field at the end of the way to `count` values, beside whatever the message has.
fn fill(message_at: &mut DynamicMessage, way: &[FieldDescriptor], count: usize) {
    let (field, rest) = way.split_first().unwrap();
    if rest.is_empty() {
        let one = match field.kind() {
            Kind::Message(_) => Value::Message(message(field)),
            Kind::String => Value::String("x".to_owned()),
            other => panic!("no value of {other:?}"),
        };
        message_at.set_field(field, Value::List(vec![one; count]));
    } else if field.is_list() {
        let mut inner = message(field);
        fill(&mut inner, rest, count);
        message_at.set_field(field, Value::List(vec![Value::Message(inner)]));
    } else {
        let known = message_at.has_field(field).then(|| message_at.get_field(field).into_owned());
        let mut inner = match known {
            Some(Value::Message(inner)) => inner,
            Some(other) => panic!("{other:?} is no message"),
            None => message(field),
        };
        fill(&mut inner, rest, count);
        message_at.set_field(field, Value::Message(inner));
    }
}

fn event_with(way: &[FieldDescriptor], count: usize) -> Bytes {
    let mut dynamic = DynamicMessage::new(way[0].parent_message().clone());
    dynamic.merge(event("s", "a").encode_to_vec().as_slice()).unwrap();
    fill(&mut dynamic, way, count);
    // In the one encoding that the ledger takes.
    v1::Event::decode(dynamic.encode_to_vec().as_slice()).unwrap().encode_to_vec().into()
}

#[test]
fn no_repeated_field_of_an_event_takes_more_values_than_the_limit() {
    let pool = DescriptorPool::decode(proofline_proto::DESCRIPTORS).unwrap();
    let ways = repeated(&pool.get_message_by_name("proofline.v1.Event").unwrap());
    assert!(ways.len() > 15, "the contract has more lists than {}", ways.len());
    let (mut world, mut collector) = World::with_collector();
    for way in ways {
        let name = way.iter().map(|field| field.name()).collect::<Vec<_>>().join(".");
        let events = [EVENT_LIST_MAX, EVENT_LIST_MAX + 1].map(|count| event_with(&way, count));
        let receipt = collector.append_bytes(&mut world, events.to_vec()).unwrap();
        let [most, more] = rejections(&receipt)[..] else { panic!("two events, {receipt:?}") };
        assert_ne!(most, v1::RejectionReason::TooManyValues, "{EVENT_LIST_MAX} values of {name}");
        assert_eq!(more, v1::RejectionReason::TooManyValues, "{} values of {name}", EVENT_LIST_MAX + 1);
    }
}
