//! P15 and P16: what holds after disks lost or altered what they held.

use super::{
    Judgement, Predicate,
    anomaly::{Anomaly, Found},
    reading::Reading,
    safety::present,
};
use crate::history::{Installed, Mark};

pub(super) fn durable(reading: &Reading<'_>) -> Judgement {
    let mut found = Found::default();
    if reading.case.history.faults.iter().any(|fault| fault.fault.loses_power()) {
        for predicate in [Predicate::NothingLost, Predicate::Containment] {
            follow(reading, &mut found, predicate, "lost-with-the-power");
        }
    }
    found.judgement()
}

fn follow(reading: &Reading<'_>, found: &mut Found, predicate: Predicate, name: &'static str) {
    match reading.judged(predicate) {
        Judgement::True => {}
        Judgement::Unknown(why) => found.open(format!("{predicate} is unknown: {}", why.join("; "))),
        Judgement::False { anomalies, .. } => {
            let first = anomalies.first();
            let detail = format!("{predicate}: {}", first.map_or("", |first| first.name));
            found.add(Anomaly { index: first.and_then(|first| first.index), ..Anomaly::new(name, detail) });
        }
    }
}

/// Damage is noticed, or was harmless: the node had what another one has, when somebody looked, or what all have at the end.
pub(super) fn corruption(reading: &Reading<'_>) -> Judgement {
    let mut found = Found::default();
    let damage = || reading.case.history.faults.iter().filter(|fault| fault.fault.damages());
    if damage().next().is_none() {
        return found.judgement();
    }
    for fault in damage() {
        if fault.installed == Installed::Indeterminate {
            found.open(format!("nobody knows whether {:?} {} was done", fault.fault, fault.detail));
        }
        for node in fault.targets.iter().filter(|_| fault.installed == Installed::Installed) {
            let noticed = reading.case.history.marks.iter().any(|marked| {
                marked.at >= fault.began
                    && match &marked.what {
                        Mark::DamageNoticed { node: by, .. } | Mark::DamageHarmless { node: by } => by == node,
                        Mark::Ended { node: by, code } => by == node && code.is_some_and(|code| code != 0),
                        _ => false,
                    }
            });
            let is_present = present(reading).any(|present| present == *node);
            if !noticed && !is_present {
                found.open(format!("node {} is gone and never said that it noticed {}", node.0, fault.detail));
            }
        }
    }
    for predicate in Predicate::ALL.into_iter().take_while(|predicate| *predicate <= Predicate::Containment) {
        follow(reading, &mut found, predicate, "damage-went-unnoticed");
    }
    found.judgement()
}
