//! How far work is: a bar that is drawn over itself on a terminal, a line now and then in a pipe. Pure.

use model_provisioner::{Notice, Progress};

use super::text::{bytes, clean_line, duration};

/// Cells of the bar.
const CELLS: u64 = 16;
/// Most characters of the name before it: with all the rest it fits into 80 columns.
const NAME: usize = 20;
/// Without a known end, a line for each of these.
const STEP: u64 = 256 << 20;

/// When a pipe gets its next line: ten in all, or one for every step where the end is not known.
#[derive(Default)]
pub(crate) struct Pace {
    told: u64,
}

impl Pace {
    pub(crate) fn is_due(&mut self, progress: &Progress) -> bool {
        let step = match percent(progress) {
            Some(percent) => percent / 10,
            None => progress.done / STEP,
        };
        let due = step > self.told;
        self.told = self.told.max(step);
        due
    }
}

/// `tiny ▕████░░░░▏ 50 % · 2.0 GiB of 4.0 GiB · 38.2 MiB/s · 54 s left`
pub(crate) fn bar(name: &str, progress: &Progress) -> String {
    let name = clean_line(name);
    let short: String = match name.char_indices().rev().nth(NAME - 1) {
        Some((at, _)) if at > 0 => format!("…{}", &name[at..]),
        _ => name,
    };
    let Some(percent) = percent(progress) else {
        return format!("{short} · {}", amounts(progress));
    };
    let full = usize::try_from(percent * CELLS / 100).unwrap_or_default();
    let empty = usize::try_from(CELLS).unwrap_or_default() - full;
    format!(
        "{short} ▕{}{}▏ {percent} % · {}",
        "█".repeat(full),
        "░".repeat(empty),
        amounts(progress)
    )
}

/// The same without the bar.
pub(crate) fn line(name: &str, progress: &Progress) -> String {
    let percent = percent(progress).map(|percent| format!("{percent} % · "));
    format!(
        "{}: {}{}",
        clean_line(name),
        percent.unwrap_or_default(),
        amounts(progress)
    )
}

/// What else is worth a line.
pub(crate) fn notice(notice: &Notice) -> Option<String> {
    let text = match notice {
        Notice::Waiting { name } => format!("somebody else fetches {name}: waiting for them"),
        Notice::Retrying { name, why, pause } => {
            format!("{name}: {why}; trying again in {}", duration(millis(pause)))
        }
        Notice::Restarting { name, why } => format!("{name}: {why}; beginning anew"),
        Notice::Verified { .. }
        | Notice::Published { .. }
        | Notice::Registered { .. }
        | Notice::Progress(_) => {
            return None;
        }
    };
    Some(clean_line(&text))
}

fn percent(progress: &Progress) -> Option<u64> {
    let total = progress.total?;
    let percent = progress.done.saturating_mul(100).checked_div(total);
    Some(percent.unwrap_or(100).min(100))
}

fn amounts(progress: &Progress) -> String {
    let mut parts = vec![match progress.total {
        Some(total) => format!("{} of {}", bytes(progress.done), bytes(total)),
        None => bytes(progress.done),
    }];
    if progress.bytes_per_s > 0 {
        parts.push(format!("{}/s", bytes(progress.bytes_per_s)));
    }
    if let Some(eta) = progress.eta.filter(|eta| !eta.is_zero()) {
        parts.push(format!("{} left", duration(millis(&eta))));
    }
    parts.join(" · ")
}

fn millis(duration: &std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn half() -> Progress {
        Progress {
            done: 2 << 30,
            total: Some(4 << 30),
            bytes_per_s: 38 << 20,
            eta: Some(Duration::from_secs(54)),
        }
    }

    #[test]
    fn a_bar_fits_a_terminal() {
        let bar = bar("hf:org/a-model-with-a-long-name/model-q4_k_m.gguf", &half());
        assert_eq!(
            bar,
            "…me/model-q4_k_m.gguf ▕████████░░░░░░░░▏ 50 % · 2.0 GiB of 4.0 GiB · 38.0 MiB/s · 54.0 s left"
        );
        let unknown = Progress {
            total: None,
            ..half()
        };
        assert_eq!(
            super::bar("m", &unknown),
            "m · 2.0 GiB · 38.0 MiB/s · 54.0 s left"
        );
        let nothing = Progress {
            total: Some(0),
            ..Progress::default()
        };
        assert!(line("m", &nothing).contains("100 %"));
    }

    #[test]
    fn a_pipe_gets_ten_lines() {
        let mut pace = Pace::default();
        let due = (0..=1000_u64).filter(|done| {
            pace.is_due(&Progress {
                done: *done,
                total: Some(1000),
                ..Progress::default()
            })
        });
        assert_eq!(
            due.collect::<Vec<_>>(),
            [100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]
        );
    }
}
