//! Counts what a ledger holds: each span, each session position, nothing lost, nothing twice.

use std::collections::BTreeMap;

use proofline_proto::v1::{self, entry_core::Body};
use prost::Message as _;
use thiserror::Error;

use crate::spans::{Span, SpanKind};

/// What is wrong with a ledger.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Difference {
    /// An entry cannot be read, or stands elsewhere than it says.
    #[error("entry {0} is not what it should be")]
    Entry(u64),
    /// A session has a gap or a position twice.
    #[error("session {session}: position {found} where {expected} is next")]
    Position {
        /// Which session.
        session: String,
        /// What comes next.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// A span is missing, incomplete, or there more than once.
    #[error("span {span:?} became {found} events, not {expected}")]
    Span {
        /// Which span.
        span: Span,
        /// Events that it should be.
        expected: usize,
        /// Events that it is.
        found: usize,
    },
    /// An event is of no span of the input.
    #[error("entry {0} records an event of a span that is not in the input")]
    Stranger(u64),
    /// An event was refused.
    #[error("entry {0} is a rejection")]
    Rejection(u64),
}

/// The census of one log, taken entry by entry.
#[derive(Clone, Debug, Default)]
pub struct Census {
    next_index: u64,
    sessions: BTreeMap<(String, String), u64>,
    spans: BTreeMap<Span, usize>,
    events: usize,
}

impl Census {
    /// Counts the next entry.
    ///
    /// # Errors
    /// [`Difference`] when it is not what must come next.
    pub fn count(&mut self, exact: &[u8]) -> Result<(), Difference> {
        let index = self.next_index;
        self.next_index += 1;
        let core = v1::Entry::decode(exact).ok().and_then(|entry| v1::EntryCore::decode(entry.core).ok());
        let core = core.filter(|core| core.index == index).ok_or(Difference::Entry(index))?;
        if let Some(session) = core.session {
            self.place(session)?;
        }
        match core.body {
            Some(Body::Event(recorded)) => self.event(index, &recorded.event),
            Some(Body::Rejection(_)) => Err(Difference::Rejection(index)),
            Some(_) => Ok(()),
            None => Err(Difference::Entry(index)),
        }
    }

    fn place(&mut self, of: v1::SessionPosition) -> Result<(), Difference> {
        let next = self.sessions.entry((of.tenant_id, of.session_id.clone())).or_default();
        if *next != of.position {
            return Err(Difference::Position { session: of.session_id, expected: *next, found: of.position });
        }
        *next += 1;
        Ok(())
    }

    fn event(&mut self, index: u64, exact: &[u8]) -> Result<(), Difference> {
        let event = v1::Event::decode(exact).map_err(|_| Difference::Entry(index))?;
        let correlation = event.correlation.ok_or(Difference::Stranger(index))?;
        *self.spans.entry(Span { trace_id: correlation.trace_id, span_id: correlation.span_id }).or_default() += 1;
        self.events += 1;
        Ok(())
    }

    /// Compares the events with the spans that they should be of.
    ///
    /// # Errors
    /// The first [`Difference`].
    pub fn compare(&self, input: &BTreeMap<Span, SpanKind>) -> Result<(), Difference> {
        for (span, kind) in input {
            let (expected, found) = (kind.events(), self.spans.get(span).copied().unwrap_or(0));
            if found != expected {
                return Err(Difference::Span { span: span.clone(), expected, found });
            }
        }
        let stranger = self.spans.iter().find(|(span, _)| !input.contains_key(span));
        stranger.map_or(Ok(()), |(span, found)| Err(Difference::Span { span: span.clone(), expected: 0, found: *found }))
    }

    /// Returns the sessions, by tenant and id, with the number of their entries.
    #[must_use]
    pub fn sessions(&self) -> &BTreeMap<(String, String), u64> {
        &self.sessions
    }

    /// Returns the number of entries, and of events among them.
    #[must_use]
    pub fn counted(&self) -> (u64, usize) {
        (self.next_index, self.events)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn span(n: u8) -> Span {
        Span { trace_id: vec![n; 16], span_id: vec![n; 8] }
    }

    fn entry(index: u64, position: u64, of: &Span) -> Vec<u8> {
        let correlation = v1::Correlation { trace_id: of.trace_id.clone(), span_id: of.span_id.clone(), ..Default::default() };
        let event = v1::Event { correlation: Some(correlation), ..Default::default() }.encode_to_vec().into();
        let session = v1::SessionPosition { tenant_id: "t".to_owned(), session_id: "s".to_owned(), position };
        let body = Some(Body::Event(v1::RecordedEvent { at: None, event }));
        let core = v1::EntryCore { index, session: Some(session), body, ..Default::default() };
        v1::Entry { core: core.encode_to_vec().into(), session_root: Vec::new() }.encode_to_vec()
    }

    fn census(entries: &[Vec<u8>]) -> Result<Census, Difference> {
        let mut census = Census::default();
        entries.iter().try_for_each(|entry| census.count(entry))?;
        Ok(census)
    }

    #[test]
    fn a_lost_and_a_doubled_event_are_noticed() {
        let input = BTreeMap::from([(span(1), SpanKind::Chat), (span(2), SpanKind::Chat)]);
        let good = [entry(0, 0, &span(1)), entry(1, 1, &span(2))];
        census(&good).unwrap().compare(&input).unwrap();
        let lost = census(&good[..1]).unwrap().compare(&input);
        assert_eq!(lost, Err(Difference::Span { span: span(2), expected: 1, found: 0 }));
        let doubled = census(&[entry(0, 0, &span(1)), entry(1, 1, &span(2)), entry(2, 2, &span(2))]).unwrap().compare(&input);
        assert_eq!(doubled, Err(Difference::Span { span: span(2), expected: 1, found: 2 }));
        let strange = census(&[entry(0, 0, &span(1)), entry(1, 1, &span(2)), entry(2, 2, &span(3))]).unwrap().compare(&input);
        assert_eq!(strange, Err(Difference::Span { span: span(3), expected: 0, found: 1 }));
    }

    #[test]
    fn a_gap_in_the_log_or_in_a_session_is_noticed() {
        assert_eq!(census(&[entry(1, 0, &span(1))]).unwrap_err(), Difference::Entry(0));
        let gap = census(&[entry(0, 0, &span(1)), entry(1, 2, &span(2))]).unwrap_err();
        assert_eq!(gap, Difference::Position { session: "s".to_owned(), expected: 1, found: 2 });
    }
}
