//! What goes to standard output: tables for people, versioned JSON for scripts. Safe for terminals in either form.

use std::io::{self, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use proofline_verifier::{escape, escape_json};
use serde_json::{Value, json};

use crate::{arguments::OutputFormat, exit::Exit};

/// What a command found: the same for people and for scripts.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Name and version of the JSON form.
    pub(crate) schema: &'static str,
    /// An object; `schema` is added to it. Null when everything was printed on the way.
    pub(crate) json: Value,
    /// For people.
    pub(crate) text: String,
    /// For people, too, and not among the lines that somebody counts.
    pub(crate) beside: String,
    /// How the program ends.
    pub(crate) exit: Exit,
    /// What ended the command after a part of it was done.
    pub(crate) failure: Option<anyhow::Error>,
}

impl Answer {
    pub(crate) fn new(schema: &'static str, json: Value, text: String) -> Self {
        Self { schema, json, text, beside: String::new(), exit: Exit::Done, failure: None }
    }

    /// Says more on standard error.
    pub(crate) fn beside(self, beside: String) -> Self {
        Self { beside, ..self }
    }

    pub(crate) fn ending(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// Ends with an error, after what was done is printed.
    pub(crate) fn failing(self, error: anyhow::Error) -> Self {
        Self { exit: Exit::of(&error), failure: Some(error), ..self }
    }

    /// Says what the answer rests on that nothing proves.
    pub(crate) fn resting_on(mut self, word: &str) -> Self {
        self.text.push_str("not proven: ");
        self.text.push_str(word);
        self.text.push('\n');
        if let Some(object) = self.json.as_object_mut() {
            object.insert("not_proven".to_owned(), Value::from(vec![word]));
        }
        self
    }

    /// Prints the answer in the wished form.
    pub(crate) fn print(&self, format: OutputFormat) -> io::Result<()> {
        match format {
            OutputFormat::Json if self.json.is_null() => Ok(()),
            OutputFormat::Table => {
                print_text(&self.text)?;
                // An empty list is an answer; beside the rows, so that whoever counts lines counts none.
                let is_empty_list = self.text.is_empty() && !self.json.is_null();
                let empty = is_empty_list.then_some("nothing to list so far");
                let beside = empty.into_iter().chain(Some(&*self.beside).filter(|it| !it.is_empty()));
                beside.for_each(|line| anstream::eprintln!("{line}"));
                Ok(())
            }
            OutputFormat::Json => print_json(self.schema, &self.json, Layout::Pretty),
        }
    }
}

/// How a JSON document is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Over several lines.
    Pretty,
    /// On one line: for streams.
    Line,
}

/// Prints lines that hold nothing unescaped.
pub(crate) fn print_text(text: &str) -> io::Result<()> {
    let mut output = anstream::stdout().lock();
    output.write_all(text.as_bytes())?;
    if !text.is_empty() && !text.ends_with('\n') {
        output.write_all(b"\n")?;
    }
    output.flush()
}

/// Prints one document.
pub(crate) fn print_json(schema: &str, object: &Value, layout: Layout) -> io::Result<()> {
    let mut document = json!({ "schema": schema });
    if let (Some(document), Some(members)) = (document.as_object_mut(), object.as_object()) {
        document.extend(members.clone());
    }
    let text = match layout {
        Layout::Pretty => serde_json::to_string_pretty(&document)?,
        Layout::Line => serde_json::to_string(&document)?,
    };
    print_text(&escape_json(&text))
}

/// Lays rows out under their headings, as wide as the terminal allows; nothing without rows. Every cell is escaped.
pub(crate) fn table<const N: usize>(headings: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(headings);
    for row in rows {
        table.add_row(row.map(|cell| escape(&cell)));
    }
    if table.row_count() == 0 {
        return String::new();
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Lays out names and values of one thing, a line each. Every value is escaped.
pub(crate) fn facts<const N: usize>(facts: [(&str, String); N]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let shown = |value: &str| if value.is_empty() { "-".to_owned() } else { escape(value) };
    facts.iter().map(|(name, value)| format!("{name:<width$}  {}\n", shown(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_shows_control_and_direction_characters_escaped() {
        let shown = table(["NAME"], [["evil\u{202e}\u{1b}[2Jname".to_owned()]]);
        assert!(shown.contains("evil\\u{202e}\\u{1b}[2Jname"), "{shown}");
    }
}
