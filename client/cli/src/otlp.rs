//! From OpenTelemetry traces of agents to events.
//!
//! It holds the OTLP/JSON form ([`wire`]), spans gathered into traces ([`trace`]), the mapping of the GenAI conventions
//! ([`mapping`]), what the tools mean ([`tools`]), and what stays outside the log: content with its salts, and the users behind pseudonyms ([`content`]).
//! Always true: the same span gives the same event, up to the salts of its content; content never enters an event.

pub(crate) mod content;
pub(crate) mod lines;
pub(crate) mod mapping;
mod scope;
pub(crate) mod tools;
pub(crate) mod trace;
pub(crate) mod wire;

#[cfg(test)]
mod tests;
