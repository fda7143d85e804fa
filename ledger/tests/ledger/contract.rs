//! What docs/FORMATS.md says of events is what the contract says.

use std::collections::BTreeSet;

use prost_reflect::{DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

const NAME_COLUMNS: usize = 19;
const COLUMNS: usize = 150;

/// The types of an event in the notation of the page, each once, in the order in which they are met.
#[derive(Default)]
struct Types {
    seen: BTreeSet<String>,
    messages: Vec<MessageDescriptor>,
    enums: Vec<EnumDescriptor>,
}

impl Types {
    fn of(message: MessageDescriptor) -> Self {
        let mut types = Self::default();
        types.meet(message);
        types
    }

    fn meet(&mut self, message: MessageDescriptor) {
        if !self.seen.insert(message.full_name().to_owned()) {
            return;
        }
        self.messages.push(message.clone());
        let mut fields: Vec<FieldDescriptor> = message.fields().collect();
        fields.sort_by_key(FieldDescriptor::number);
        for field in fields {
            match field.kind() {
                Kind::Message(inner) => self.meet(inner),
                Kind::Enum(of) if self.seen.insert(of.full_name().to_owned()) => self.enums.push(of),
                _ => {}
            }
        }
    }

    fn lines(&self) -> String {
        let messages = self.messages.iter().map(|message| {
            let mut fields: Vec<FieldDescriptor> = message.fields().collect();
            fields.sort_by_key(FieldDescriptor::number);
            laid_out(message.name(), fields.iter().map(|field| format!("{} {}: {}", field.number(), field.name(), type_of(field))))
        });
        let enums = self.enums.iter().map(|of| {
            let prefix = of.values().next().unwrap().name().trim_end_matches("UNSPECIFIED").to_owned();
            let values = of.values().filter(|value| value.number() != 0);
            laid_out(of.name(), values.map(|value| format!("{} {}", value.number(), value.name().trim_start_matches(&prefix))))
        });
        messages.chain(enums).collect()
    }
}

fn type_of(field: &FieldDescriptor) -> String {
    let name = match field.kind() {
        Kind::Message(inner) => inner.name().to_owned(),
        Kind::Enum(of) => of.name().to_owned(),
        Kind::Uint32 => "u32".to_owned(),
        Kind::Uint64 => "u64".to_owned(),
        Kind::Fixed64 => "f64".to_owned(),
        Kind::Bool => "bool".to_owned(),
        Kind::Bytes => "bytes".to_owned(),
        Kind::String => "string".to_owned(),
        other => panic!("the page has no notation for {other:?}"),
    };
    if field.is_list() { format!("repeated {name}") } else { name }
}

fn laid_out(name: &str, parts: impl Iterator<Item = String>) -> String {
    let mut lines = vec![format!("{name:<NAME_COLUMNS$}")];
    for part in parts {
        let last = lines.last_mut().unwrap();
        if last.len() + 3 + part.len() > COLUMNS {
            lines.push(" ".repeat(NAME_COLUMNS));
        }
        let last = lines.last_mut().unwrap();
        let gap = if last.len() == NAME_COLUMNS { " " } else { "   " };
        last.push_str(gap);
        last.push_str(&part);
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

#[test]
fn the_page_on_formats_lists_every_field_of_an_event() {
    let pool = DescriptorPool::decode(proofline_proto::DESCRIPTORS).unwrap();
    let lines = Types::of(pool.get_message_by_name("proofline.v1.Event").unwrap()).lines();
    let page = std::fs::read_to_string(std::env::var("CARGO_MANIFEST_DIR").unwrap() + "/../docs/FORMATS.md").unwrap();
    assert!(page.contains(&format!("```\n{lines}```")), "docs/FORMATS.md, section 6.4, should list:\n```\n{lines}```");
}
