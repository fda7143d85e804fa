//! Places in what a call was given and gave back, and texts that are made from them.

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::otlp::content::Pseudonyms;

/// Longest value that enters an event, in bytes: what is longer is content, not a name.
const VALUE_BYTES_MAX: usize = 256;
const SUBJECT: &str = "subject(";

/// Why a text names no place.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum PlaceError {
    #[error("{0:?} begins with none of arguments, result and known")]
    Root(String),
    #[error("{0:?} has an empty step")]
    EmptyStep(String),
    #[error("{0:?} opens a brace that it does not close")]
    OpenBrace(String),
}

/// Where a place begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Root {
    /// What the call was given.
    Arguments,
    /// What it gave back.
    Result,
    /// What an earlier call of the trace showed of the same record.
    Known,
}

/// What is known of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) arguments: &'a Value,
    /// Missing before the call, and when the result is no JSON.
    pub(super) result: Option<&'a Value>,
    pub(super) known: Option<&'a Value>,
}

/// A place, such as `result.payment_history.amount`.
///
/// A step into a list is a number, from the end when it is negative; any other step goes into every element.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Place {
    pub(super) root: Root,
    pub(super) steps: Vec<String>,
}

impl TryFrom<String> for Place {
    type Error = PlaceError;

    fn try_from(text: String) -> Result<Self, PlaceError> {
        let mut steps = text.split('.').map(str::to_owned);
        let root = match steps.next().as_deref() {
            Some("arguments") => Root::Arguments,
            Some("result") => Root::Result,
            Some("known") => Root::Known,
            Some(_) | None => return Err(PlaceError::Root(text)),
        };
        let steps: Vec<String> = steps.collect();
        if steps.iter().any(String::is_empty) { Err(PlaceError::EmptyStep(text)) } else { Ok(Self { root, steps }) }
    }
}

impl Place {
    /// Returns the same place of another root.
    pub(super) fn of(&self, root: Root) -> Self {
        Self { root, steps: self.steps.clone() }
    }

    /// Returns every value at the place.
    pub(super) fn values<'a>(&self, seen: &Seen<'a>) -> Vec<&'a Value> {
        let root = match self.root {
            Root::Arguments => Some(seen.arguments),
            Root::Result => seen.result,
            Root::Known => seen.known,
        };
        let mut found: Vec<&Value> = root.into_iter().collect();
        for step in &self.steps {
            found = found.into_iter().flat_map(|value| inside(value, step)).collect();
        }
        found
    }

    /// Returns the single text, number or flag at the place, if it is short enough to be a name.
    pub(super) fn text(&self, seen: &Seen<'_>) -> Option<String> {
        let text = match self.values(seen).as_slice() {
            [Value::String(text)] => text.clone(),
            [value @ (Value::Number(_) | Value::Bool(_))] => value.to_string(),
            _ => return None,
        };
        let is_name = !text.is_empty() && text.len() <= VALUE_BYTES_MAX && !text.chars().any(char::is_control);
        is_name.then_some(text)
    }
}

fn inside<'a>(value: &'a Value, step: &str) -> Vec<&'a Value> {
    match value {
        Value::Object(members) => members.get(step).into_iter().collect(),
        Value::Array(items) => match step.parse::<isize>() {
            Ok(number) => {
                let from_end = || items.len().checked_sub(number.unsigned_abs());
                let at = if number < 0 { from_end() } else { usize::try_from(number).ok() };
                at.and_then(|at| items.get(at)).into_iter().collect()
            }
            Err(_) => items.iter().flat_map(|item| inside(item, step)).collect(),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// A text with places in braces; `{subject(place)}` stands for the subject of the user that is named there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value(Place),
    Subject(Place),
}

/// How users become subjects in what is made of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subjects<'a> {
    pub(super) issuer: &'a str,
    pub(super) pseudonyms: &'a Pseudonyms,
}

impl Subjects<'_> {
    pub(super) fn of(&self, user: &str) -> String {
        self.pseudonyms.subject(self.issuer, user)
    }
}

impl TryFrom<String> for Template {
    type Error = PlaceError;

    fn try_from(text: String) -> Result<Self, PlaceError> {
        let mut pieces = Vec::new();
        let mut rest = text.as_str();
        while let Some((before, from)) = rest.split_once('{') {
            let (place, after) = from.split_once('}').ok_or_else(|| PlaceError::OpenBrace(text.clone()))?;
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(match place.strip_prefix(SUBJECT).and_then(|it| it.strip_suffix(')')) {
                Some(user) => Piece::Subject(user.to_owned().try_into()?),
                None => Piece::Value(place.to_owned().try_into()?),
            });
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self { pieces })
    }
}

impl Template {
    /// Returns the text; none when a place of it has no value.
    pub(super) fn fill(&self, seen: &Seen<'_>, subjects: Subjects<'_>) -> Option<String> {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => Some(text.clone()),
            Piece::Value(place) => place.text(seen),
            Piece::Subject(place) => place.text(seen).map(|user| subjects.of(&user)),
        };
        self.pieces.iter().map(piece).collect()
    }

    /// Tells whether the text can be made before there is a result.
    pub(super) fn is_of_intent(&self) -> bool {
        self.pieces.iter().all(|piece| match piece {
            Piece::Text(_) => true,
            Piece::Value(place) | Piece::Subject(place) => place.root != Root::Result,
        })
    }

    /// Returns the places that name users.
    pub(super) fn users(&self) -> impl Iterator<Item = &Place> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Subject(place) => Some(place),
            Piece::Text(_) | Piece::Value(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn place(text: &str) -> Place {
        text.to_owned().try_into().unwrap()
    }

    fn found(text: &str, arguments: &Value) -> Value {
        let seen = Seen { arguments, result: None, known: None };
        json!(place(text).values(&seen))
    }

    #[test]
    fn a_step_goes_into_members_into_one_element_or_into_all_of_them() {
        let given = json!({"id": "A", "legs": [{"from": "X"}, {"from": "Y"}, {"to": "Z"}]});
        assert_eq!(found("arguments.id", &given), json!(["A"]));
        assert_eq!(found("arguments.legs.from", &given), json!(["X", "Y"]));
        assert_eq!(found("arguments.legs.0.from", &given), json!(["X"]));
        assert_eq!(found("arguments.legs.-1.to", &given), json!(["Z"]));
        assert_eq!(found("arguments.legs.-4", &given), json!([]));
        assert_eq!(found("arguments.none.at.all", &given), json!([]));
        assert_eq!(found("result.id", &given), json!([]));
    }

    #[test]
    fn a_template_takes_short_single_values_only() {
        let given = json!({"id": "A", "list": ["A", "B"], "long": "x".repeat(257), "line": "a\nb", "many": 7});
        let seen = Seen { arguments: &given, result: None, known: None };
        let subjects = Subjects { issuer: "i", pseudonyms: &Pseudonyms::AsGiven };
        let fill = |text: &str| Template::try_from(text.to_owned()).unwrap().fill(&seen, subjects);
        assert_eq!(fill("x://{arguments.id}/{subject(arguments.many)}").as_deref(), Some("x://A/7"));
        for without in ["{arguments.list}", "{arguments.long}", "{arguments.line}", "{arguments.none}", "{result.id}"] {
            assert_eq!(fill(without), None, "{without}");
        }
    }

    #[test]
    fn what_is_no_place_is_named() {
        let refused = |text: &str| Template::try_from(text.to_owned()).unwrap_err();
        assert_eq!(refused("a{argument.id}"), PlaceError::Root("argument.id".to_owned()));
        assert_eq!(refused("a{arguments..id}"), PlaceError::EmptyStep("arguments..id".to_owned()));
        assert_eq!(refused("a{arguments.id"), PlaceError::OpenBrace("a{arguments.id".to_owned()));
    }
}
