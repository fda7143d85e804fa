//! Times for people: RFC 3339 in UTC. Pure arithmetic on a given number; reads no clock.

const SECOND_NS: u64 = 1_000_000_000;
const DAY_S: u64 = 86_400;

/// Formats seconds since the Unix epoch.
pub(crate) fn of_seconds(unix_s: u64) -> String {
    format!("{}Z", date_and_time(unix_s))
}

/// Formats nanoseconds since the Unix epoch, with all nine digits.
#[must_use]
pub fn of_nanoseconds(unix_ns: u64) -> String {
    format!("{}.{:09}Z", date_and_time(unix_ns / SECOND_NS), unix_ns % SECOND_NS)
}

fn date_and_time(unix_s: u64) -> String {
    let (year, month, day) = civil(unix_s / DAY_S);
    let of_day = unix_s % DAY_S;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// Converts days since 1970-01-01 into year, month and day: Howard Hinnant's `civil_from_days`, for dates after the epoch.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::{of_nanoseconds, of_seconds};

    #[test]
    fn known_instants_come_out_as_calendars_have_them() {
        let known = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ];
        for (unix_s, text) in known {
            assert_eq!(of_seconds(unix_s), text);
        }
        assert_eq!(of_nanoseconds(1_700_000_000_000_000_007), "2023-11-14T22:13:20.000000007Z");
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        assert!(of_nanoseconds(u64::MAX).starts_with("2554-"));
        assert!(of_seconds(u64::MAX).ends_with('Z'));
    }
}
