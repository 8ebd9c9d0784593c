//! The task state machine: the whole table, and runs of random events.

use api_types::TaskState;
use orchestrator_core::task::{Event, Rejected, step};
use proptest::prelude::*;

#[test]
fn the_whole_table() {
    let mut table = String::new();
    for state in TaskState::ALL {
        for event in Event::ALL {
            let line = match step(*state, event) {
                Ok(transition) => format!("{state} + {event:?} -> {}\n", transition.to),
                Err(rejected) => format!("{state} + {event:?}: {rejected}\n"),
            };
            table.push_str(&line);
        }
    }
    insta::assert_snapshot!(table);
}

proptest! {
    #[test]
    fn a_task_ends_exactly_once_and_stays_ended(events in prop::collection::vec(prop::sample::select(&Event::ALL[..]), 0..40)) {
        let mut state = TaskState::Queued;
        let mut endings = 0;
        for event in events {
            match step(state, event) {
                Ok(transition) => {
                    prop_assert_eq!(transition.from, state);
                    prop_assert!(!state.is_terminal());
                    endings += u32::from(transition.ends_task());
                    state = transition.to;
                }
                Err(Rejected::AlreadyTerminal { state: ended }) => prop_assert!(ended == state && state.is_terminal()),
                Err(Rejected::Impossible { state: at, .. }) => prop_assert!(at == state && !state.is_terminal()),
            }
        }
        prop_assert_eq!(endings, u32::from(state.is_terminal()));
    }
}
