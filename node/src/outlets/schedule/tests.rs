use super::*;

const FIRST: Duration = Duration::from_secs(5);
const PATIENCE: Patience = Patience { first: FIRST, give_up_after: Duration::from_hours(72) };

fn answer(status: u16, body: Option<&str>) -> Result<Answer, NoAnswer> {
    Ok(Answer { status, retry_after: None, body: body.map(|body| body.to_owned().into()) })
}

fn verdict(protocol: Protocol, sent: &Result<Answer, NoAnswer>, key_failures: u32) -> String {
    match judge(protocol, sent, key_failures) {
        Verdict::Delivered => "delivered".to_owned(),
        Verdict::Again { error, .. } => format!("again: {error}"),
        Verdict::DeadLetter { error } => format!("dead letter: {error}"),
        Verdict::Pause { error } => format!("pause: {error}"),
        Verdict::Disable { error } => format!("disable: {error}"),
    }
}

#[test]
fn answers_mean_this() {
    let refused = |code: &str| format!(r#"{{"err":"{code}","description":"why"}}"#);
    let mut lines = Vec::new();
    for status in [200, 202, 204, 301, 307, 401, 403, 404, 408, 410, 413, 425, 429, 500, 503] {
        let sent = answer(status, None);
        lines.push(format!("{status}: {} | {}", verdict(Protocol::SharedSignals, &sent, 0), verdict(Protocol::Webhook, &sent, 0)));
    }
    for code in ["invalid_request", "invalid_key", "invalid_issuer", "invalid_audience", "authentication_failed", "access_denied", "other"]
    {
        let sent = answer(400, Some(&refused(code)));
        lines.push(format!("400 {code}: {} | {}", verdict(Protocol::SharedSignals, &sent, 0), verdict(Protocol::Webhook, &sent, 0)));
    }
    lines.push(format!("400 invalid_key again: {}", verdict(Protocol::SharedSignals, &answer(400, Some(&refused("invalid_key"))), 1)));
    lines.push(format!(
        "400 invalid_key a third time: {}",
        verdict(Protocol::SharedSignals, &answer(400, Some(&refused("invalid_key"))), 2)
    ));
    lines.push(format!("400 without JSON: {}", verdict(Protocol::SharedSignals, &answer(400, Some("no")), 0)));
    lines.push(format!("400 too long: {}", verdict(Protocol::SharedSignals, &answer(400, None), 0)));
    lines.push(format!("no answer: {}", verdict(Protocol::SharedSignals, &Err(NoAnswer::Timeout(FIRST)), 0)));
    insta::assert_snapshot!(lines.join("\n"));
}

/// The pauses of a message of which every attempt fails at once, until it is given up.
fn pauses(protocol: Protocol, patience: Patience) -> Vec<Duration> {
    let (mut pauses, mut age) = (Vec::new(), Duration::ZERO);
    for attempts in 1.. {
        let standing = Standing { jti: "0123456789abcdef0123456789abcdef", attempts, age };
        let Some(pause) = pause(protocol, standing, patience, None) else { break };
        pauses.push(pause);
        age += pause;
    }
    pauses
}

#[test]
fn a_webhook_is_tried_ten_times_by_the_standard_schedule() {
    let pauses = pauses(Protocol::Webhook, PATIENCE);
    assert_eq!(pauses.len(), 9);
    // Jitter moves an attempt behind its point, and the next one is measured from the change and not from there.
    let mut at = Duration::ZERO;
    let mut point = Duration::ZERO;
    for (pause, standard) in pauses.iter().zip(WEBHOOK_PAUSES_S) {
        at += *pause;
        point += Duration::from_secs(standard);
        assert!(at >= point && at <= point.mul_f64(1.0 + JITTER), "{at:?} for {point:?}");
    }
}

#[test]
fn a_stream_is_tried_for_three_days_with_pauses_that_double_up_to_an_hour() {
    let pauses = pauses(Protocol::SharedSignals, PATIENCE);
    let seconds: Vec<u64> = pauses.iter().take(12).map(Duration::as_secs).collect();
    for (pause, expected) in seconds.iter().zip([5, 10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600, 3_600]) {
        assert!(*pause >= expected && *pause <= expected + expected / 10, "{seconds:?}");
    }
    let whole: Duration = pauses.iter().sum();
    assert!(whole >= PATIENCE.give_up_after && whole < PATIENCE.give_up_after + Duration::from_mins(67), "{whole:?}");
}

#[test]
fn times_grow_with_the_first_pause() {
    let quick = Patience { first: Duration::from_millis(50), give_up_after: Duration::from_secs(1) };
    assert!(pauses(Protocol::Webhook, quick).iter().sum::<Duration>() < Duration::from_secs(75 * 36 + 1_000));
    assert_eq!(scaled(300, quick.first), Duration::from_secs(3));
    assert!(pauses(Protocol::SharedSignals, quick).len() < 7);
}

#[test]
fn a_receiver_that_asks_for_patience_gets_it_and_no_message_comes_with_the_others() {
    let standing = |jti| Standing { jti, attempts: 1, age: Duration::ZERO };
    let asked = Some(Duration::from_secs(120));
    assert_eq!(pause(Protocol::SharedSignals, standing("a"), PATIENCE, asked), asked);
    assert!(pause(Protocol::SharedSignals, standing("a"), PATIENCE, Some(Duration::ZERO)).unwrap() >= FIRST);
    let apart: std::collections::BTreeSet<_> =
        ["a", "b", "c", "d"].map(|jti| pause(Protocol::Webhook, standing(jti), PATIENCE, None)).into();
    assert!(apart.len() > 2, "{apart:?}");
}

#[test]
fn a_new_leader_goes_on_where_the_schedule_stands() {
    let standing = |hours| Standing { jti: "a", attempts: 1, age: Duration::from_hours(hours) };
    let pause_at = |hours| pause(Protocol::Webhook, standing(hours), PATIENCE, None);
    // The points lie at 5 s, 5 min 5 s, 35 min 5 s, 2 h 35 min 5 s, 7 h 35 min 5 s and so on.
    assert!(pause_at(1).unwrap() >= Duration::from_mins(95) && pause_at(1).unwrap() < Duration::from_mins(106));
    assert_eq!(pause_at(76), None);
}
