//! Sessions against a plain model: REQ-SESSION-TTL, REQ-SESSION-TURNS, REQ-SESSION-BOUND,
//! REQ-BUDGET-RESERVE, REQ-BUDGET-SETTLE, REQ-SESSION-AFFINITY.

use api_types::Cost;
use orchestrator_core::session::budget::{Ask, Budget, Budgets, Prices, Used};
use orchestrator_core::session::{Hold, Home, Limits, Refusal, Sessions, Turn};
use proptest::prelude::*;

/// Tokens of the prompt, output asked for, bound of the output, bound of the time.
type Size = (u64, Option<u64>, u64, u64);

#[derive(Debug, Clone)]
enum Op {
    Admit(u8, Size),
    /// Settles one of the live tasks: share of its grant in percent, whether it ran.
    Settle(usize, u64, bool),
    End(u8),
    Pass(u64),
}

/// A live task as the model keeps it.
struct Live {
    hold: Hold<u8>,
    ask: Ask,
    /// Tokens and ms held.
    held: (u64, u64),
    /// Which of the model's sessions, by number.
    session: usize,
}

/// A session as the model keeps it, never removed from the list.
#[derive(Clone)]
struct Known {
    key: u8,
    turns: u32,
    tokens: u64,
    time_ms: u64,
    used_at: u64,
    gone: bool,
}

struct Model {
    limits: Limits,
    now: u64,
    known: Vec<Known>,
    live: Vec<Live>,
}

impl Model {
    fn current(&self, key: u8) -> Option<usize> {
        self.known
            .iter()
            .position(|known| known.key == key && !known.gone)
    }

    fn live_of(&self, session: usize) -> impl Iterator<Item = &Live> {
        self.live.iter().filter(move |live| live.session == session)
    }

    fn left(&self, session: Option<usize>) -> (Option<u64>, Option<u64>) {
        let (tokens, time) = session.map_or((0, 0), |at| {
            let held = self
                .live_of(at)
                .fold((0, 0), |sum, live| (sum.0 + live.held.0, sum.1 + live.held.1));
            (self.known[at].tokens + held.0, self.known[at].time_ms + held.1)
        });
        let budgets = self.limits.budgets;
        (
            budgets.tokens.map(|limit| limit - tokens),
            budgets.time_ms.map(|limit| limit - time),
        )
    }

    fn expire(&mut self) {
        for at in 0..self.known.len() {
            let idle = self.live_of(at).next().is_none();
            if idle && self.now - self.known[at].used_at >= self.limits.ttl_ms {
                self.known[at].gone = true;
            }
        }
    }

    /// Idle sessions go, the one that was idle for longest first, until `most` are left.
    fn evict(&mut self, most: usize) {
        while self.known.iter().filter(|known| !known.gone).count() > most {
            let idle =
                (0..self.known.len()).filter(|&at| !self.known[at].gone && self.live_of(at).next().is_none());
            let Some(oldest) = idle.min_by_key(|&at| (self.known[at].used_at, self.known[at].key)) else {
                return;
            };
            self.known[oldest].gone = true;
        }
    }

    /// What the session must answer: `None` admits.
    fn refusal(&self, session: Option<usize>, ask: &Ask) -> Option<&'static str> {
        if session.is_some_and(|at| self.known[at].turns >= self.limits.max_turns) {
            return Some("turns");
        }
        let least = ask.tokens_in + ask.tokens_out.unwrap_or_else(|| ask.tokens_out_bound.min(1));
        let (tokens, time) = self.left(session);
        if tokens.is_some_and(|left| left < least) {
            return Some("tokens");
        }
        (time == Some(0)).then_some("time")
    }
}

fn ask((tokens_in, tokens_out, tokens_out_bound, time_ms_bound): Size) -> Ask {
    Ask {
        tokens_in,
        tokens_out,
        tokens_out_bound,
        time_ms_bound,
    }
}

fn apply(table: &mut Sessions<u8>, model: &mut Model, op: Op) -> Result<(), TestCaseError> {
    match op {
        Op::Pass(ms) => model.now += ms,
        Op::End(key) => {
            model.expire();
            let known = model.current(key);
            prop_assert_eq!(table.end(&key, model.now), known.is_some());
            if let Some(at) = known {
                model.known[at].gone = true;
            }
        }
        Op::Admit(key, size) => {
            model.expire();
            let (ask, session) = (ask(size), model.current(key));
            let expected = model.refusal(session, &ask);
            let answer = table.admit(&key, &ask, model.now);
            let told = answer.as_ref().err().map(|refusal| match refusal {
                Refusal::Turns { .. } => "turns",
                Refusal::Budget(drawn) => match drawn.budget {
                    Budget::Tokens => "tokens",
                    Budget::Time => "time",
                    Budget::Cost => "cost",
                },
            });
            prop_assert_eq!(told, expected);
            if let Ok(hold) = answer {
                let (tokens_left, time_left) = model.left(session);
                let session = session.unwrap_or_else(|| {
                    model.evict(model.limits.max_sessions - 1);
                    model.known.push(Known {
                        key,
                        turns: 0,
                        tokens: 0,
                        time_ms: 0,
                        used_at: model.now,
                        gone: false,
                    });
                    model.known.len() - 1
                });
                let held = (hold.grant().held.tokens, hold.grant().held.time_ms);
                prop_assert!(
                    tokens_left.is_none_or(|left| held.0 <= left),
                    "reserves no more than is left"
                );
                prop_assert!(
                    time_left.is_none_or(|left| held.1 <= left),
                    "reserves no more than is left"
                );
                if let Some(asked) = ask.tokens_out {
                    prop_assert_eq!(
                        held.0,
                        ask.tokens_in + asked,
                        "what was asked for is what is held"
                    );
                }
                model.known[session].turns += 1;
                model.known[session].used_at = model.now;
                model.live.push(Live {
                    hold,
                    ask,
                    held,
                    session,
                });
            }
        }
        Op::Settle(which, percent, ran) => {
            if model.live.is_empty() {
                return Ok(());
            }
            let live = model.live.swap_remove(which % model.live.len());
            let out = (live.held.0 - live.ask.tokens_in) * percent / 100;
            let used = if ran {
                Used {
                    tokens_in: live.ask.tokens_in,
                    tokens_out: out,
                    time_ms: live.held.1 * percent / 100,
                }
            } else {
                Used::default()
            };
            table.settle(
                &live.hold,
                Turn {
                    used,
                    ran,
                    home: None,
                },
                model.now,
            );
            let known = &mut model.known[live.session];
            if !known.gone {
                known.tokens += used.tokens_in + used.tokens_out;
                known.time_ms += used.time_ms;
                known.used_at = model.now;
                known.turns -= u32::from(!ran);
                model.evict(model.limits.max_sessions);
            }
        }
    }
    Ok(())
}

fn agrees(table: &Sessions<u8>, model: &mut Model) -> Result<(), TestCaseError> {
    model.expire();
    for key in 0..4 {
        let at = model.current(key);
        let shown = table.get(&key, model.now);
        prop_assert_eq!(shown.is_some(), at.is_some(), "session {}", key);
        let (Some(shown), Some(at)) = (shown, at) else {
            continue;
        };
        let left = shown.ledger().remaining(&model.limits.budgets);
        let expected = model.left(Some(at));
        prop_assert_eq!(
            (left.tokens_budget_remaining, left.time_budget_remaining_ms),
            expected
        );
        prop_assert_eq!(shown.turns(), model.known[at].turns);
        prop_assert_eq!(shown.live() as usize, model.live_of(at).count());
        let held = shown.ledger().held();
        if shown.live() == 0 {
            prop_assert_eq!(
                (held.tokens, held.time_ms, held.cost),
                (0, 0, Cost::ZERO),
                "nothing leaks"
            );
        }
    }
    let busy: std::collections::BTreeSet<usize> = model.live.iter().map(|live| live.session).collect();
    prop_assert!(
        table.len() <= model.limits.max_sessions.max(busy.len()),
        "the table is bounded"
    );
    Ok(())
}

fn op() -> impl Strategy<Value = Op> {
    let size = (0u64..60, prop::option::of(0u64..60), 0u64..200, 1u64..500);
    prop_oneof![
        4 => (0u8..4, size).prop_map(|(key, size)| Op::Admit(key, size)),
        4 => (any::<usize>(), 0u64..=100, prop::bool::weighted(0.8)).prop_map(|(w, p, r)| Op::Settle(w, p, r)),
        1 => (0u8..4).prop_map(Op::End),
        2 => (0u64..700).prop_map(Op::Pass),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    let budgets = (prop::option::of(0u64..400), prop::option::of(0u64..1500));
    (budgets, 1u32..10, 1usize..5).prop_map(|((tokens, time_ms), max_turns, max_sessions)| Limits {
        ttl_ms: 1000,
        max_turns,
        max_sessions,
        affinity_ttl_ms: 500,
        budgets: Budgets {
            tokens,
            time_ms,
            cost: None,
        },
        prices: None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// 512 cases of up to 400 steps: more than 100 000 steps in which both must say the same.
    #[test]
    fn the_table_and_a_plain_model_agree(limits in limits(), ops in prop::collection::vec(op(), 300..400)) {
        let mut table = Sessions::new(limits);
        let mut model = Model { limits, now: 0, known: Vec::new(), live: Vec::new() };
        for op in ops {
            apply(&mut table, &mut model, op)?;
            agrees(&table, &mut model)?;
        }
    }

    /// Whatever is asked for and used within the grant, no budget is overdrawn, cost included.
    #[test]
    fn side_by_side_never_overdraws(
        asks in prop::collection::vec((0u64..2000, prop::option::of(0u64..2000), 0u64..4000, 1u64..5000), 1..30),
        budget in (0u64..20_000, 0u64..20_000, 0u64..5_000_000_000),
        price in (0u64..2_000_000_000, 0u64..2_000_000_000),
        percent in 0u64..=100,
    ) {
        let budgets = Budgets {
            tokens: Some(budget.0),
            time_ms: Some(budget.1),
            cost: Some(Cost::of_nanos(budget.2)),
        };
        let prices = Prices { in_per_1k: Cost::of_nanos(price.0), out_per_1k: Cost::of_nanos(price.1) };
        let mut ledger = orchestrator_core::session::budget::Ledger::default();
        let mut grants = Vec::new();
        for size in asks {
            let ask = ask(size);
            let before = ledger;
            match ledger.hold(&ask, &budgets, Some(&prices)) {
                Ok(grant) => grants.push((ask, grant)),
                Err(drawn) => {
                    prop_assert!(drawn.needs > drawn.left);
                    prop_assert_eq!(before, ledger, "a refusal reserves nothing");
                }
            }
            let held = ledger.held();
            prop_assert!(held.tokens <= budget.0 && held.time_ms <= budget.1 && held.cost.nanos() <= budget.2);
        }
        for (ask, grant) in grants {
            let out = (grant.held.tokens - ask.tokens_in) * percent / 100;
            let used = Used { tokens_in: ask.tokens_in, tokens_out: out, time_ms: grant.held.time_ms };
            ledger.settle(&grant, &used, Some(&prices));
            let (spent, held) = (ledger.spent(), ledger.held());
            prop_assert!(spent.tokens + held.tokens <= budget.0);
            prop_assert!(spent.time_ms + held.time_ms <= budget.1);
            prop_assert!(spent.cost.nanos() + held.cost.nanos() <= budget.2);
        }
        prop_assert_eq!(ledger.held(), Default::default(), "nothing leaks");
    }
}

fn plain(budgets: Budgets) -> Limits {
    Limits {
        ttl_ms: 1000,
        max_turns: 8,
        max_sessions: 16,
        affinity_ttl_ms: 300,
        budgets,
        prices: None,
    }
}

#[test]
fn a_turn_that_used_more_than_it_held_leaves_nothing_and_not_less() {
    let mut table = Sessions::new(plain(Budgets {
        tokens: Some(100),
        ..Budgets::default()
    }));
    let hold = table.admit(&1, &ask((10, Some(10), 10, 1)), 0).unwrap();
    let used = Used {
        tokens_in: 10,
        tokens_out: 500,
        time_ms: 0,
    };
    table.settle(
        &hold,
        Turn {
            used,
            ran: true,
            home: None,
        },
        0,
    );
    let left = table
        .get(&1, 0)
        .unwrap()
        .ledger()
        .remaining(&table.limits().budgets);
    assert_eq!(left.tokens_budget_remaining, Some(0));
}

#[test]
fn what_is_not_bounded_is_given_what_is_left() {
    let limits = Limits {
        prices: Some(Prices {
            in_per_1k: Cost::of_units(1.0),
            out_per_1k: Cost::of_units(2.0),
        }),
        ..plain(Budgets {
            tokens: Some(1000),
            time_ms: Some(5000),
            cost: Some(Cost::of_units(0.5)),
        })
    };
    let mut table = Sessions::new(limits);
    let hold = table.admit(&1, &ask((100, None, 2048, 60_000)), 0).unwrap();
    // 0.1 of 0.5 pays for the prompt; the rest for 200 tokens.
    assert_eq!(
        (hold.grant().tokens_out, hold.grant().time_ms),
        (Some(200), Some(5000))
    );
    let Err(Refusal::Budget(drawn)) = table.admit(&1, &ask((1, Some(1), 1, 1)), 0) else {
        panic!("everything is held")
    };
    assert_eq!(drawn.budget, Budget::Time);
    assert!(drawn.may_pass_later());
}

#[test]
fn the_pool_of_the_last_turn_is_preferred_for_a_while() {
    let mut table = Sessions::new(plain(Budgets::default()));
    let hold = table.admit(&1, &ask((1, None, 10, 10)), 0).unwrap();
    assert_eq!(
        (hold.grant().tokens_out, hold.grant().time_ms),
        (None, None),
        "no budget, no limit"
    );
    let home = Home {
        pool_id: "gpu0".parse().unwrap(),
        replica_id: "r0".parse().unwrap(),
        generation: 1,
        kv_tokens: 7,
        at_ms: 100,
    };
    let turn = Turn {
        ran: true,
        home: Some(home.clone()),
        ..Turn::default()
    };
    table.settle(&hold, turn, 100);
    assert_eq!(table.home(&1, 399), Some(&home));
    assert_eq!(table.home(&1, 400), None);
    assert!(table.get(&1, 1099).is_some() && table.get(&1, 1100).is_none());
}
