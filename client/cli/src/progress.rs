//! Progress on standard error, for people only: nothing is drawn when it is no terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const REDRAW: Duration = Duration::from_millis(120);

/// A bar that counts `unit` up to `total`.
pub(crate) fn bar(total: u64, unit: &str) -> ProgressBar {
    let template = format!("{{bar:32}} {{human_pos}}/{{human_len}} {unit}  {{per_sec}}  {{eta}} left");
    style(ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr()), &template)
}

/// A spinner that counts `unit` while the total is not known.
pub(crate) fn counter(unit: &str) -> ProgressBar {
    let template = format!("{{spinner}} {{human_pos}} {unit}  {{per_sec}}  {{elapsed}}  {{msg}}");
    let counter = style(ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()), &template);
    counter.enable_steady_tick(REDRAW);
    counter
}

fn style(bar: ProgressBar, template: &str) -> ProgressBar {
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
