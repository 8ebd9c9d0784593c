//! Budgets: what a session may spend, what it has spent, what its live tasks hold (REQ-BUDGET-RESERVE).
//!
//! A task reserves before it is queued as much as it can cost at most, and is charged at its end what it
//! did cost. So tasks that run side by side cannot overdraw.

use api_types::{BudgetsRemaining, Cost, PolicyLabel};

/// Limits of a session; absent means none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budgets {
    /// Tokens, prompts and outputs together.
    pub tokens: Option<u64>,
    /// Time on engines, ms.
    pub time_ms: Option<u64>,
    /// Cost; takes effect only where there are prices.
    pub cost: Option<Cost>,
}

/// What tokens cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prices {
    /// 1000 prompt tokens.
    pub in_per_1k: Cost,
    /// 1000 generated tokens.
    pub out_per_1k: Cost,
}

impl Prices {
    /// Price of that many tokens, rounded up to the next billionth.
    #[must_use]
    pub fn of(&self, tokens_in: u64, tokens_out: u64) -> Cost {
        let sum = self.thousandfold(tokens_in, tokens_out).div_ceil(1000);
        Cost::of_nanos(u64::try_from(sum).unwrap_or(u64::MAX))
    }

    /// Most generated tokens that `cost` pays for besides the prompt.
    fn affordable(&self, cost: Cost, tokens_in: u64) -> u64 {
        let left = (u128::from(cost.nanos()) * 1000).saturating_sub(self.thousandfold(tokens_in, 0));
        let price = u128::from(self.out_per_1k.nanos());
        left.checked_div(price)
            .map_or(u64::MAX, |tokens| u64::try_from(tokens).unwrap_or(u64::MAX))
    }

    fn thousandfold(&self, tokens_in: u64, tokens_out: u64) -> u128 {
        let part = |tokens: u64, price: Cost| u128::from(tokens) * u128::from(price.nanos());
        // Two products of 64-bit numbers; the sum may lack one bit.
        part(tokens_in, self.in_per_1k).saturating_add(part(tokens_out, self.out_per_1k))
    }
}

/// What a task may cost at most, as far as its request bounds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Prompt tokens.
    pub tokens_in: u64,
    /// Output tokens asked for; `None` leaves it to what the budgets allow.
    pub tokens_out: Option<u64>,
    /// Output tokens that no run can exceed.
    pub tokens_out_bound: u64,
    /// Time on an engine that no run can exceed, ms.
    pub time_ms_bound: u64,
}

/// An amount of everything that is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Tokens, prompts and outputs together.
    pub tokens: u64,
    /// Time on engines, ms.
    pub time_ms: u64,
    /// Cost; stays zero without prices.
    pub cost: Cost,
}

impl Amount {
    const fn plus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_add(other.tokens),
            time_ms: self.time_ms.saturating_add(other.time_ms),
            cost: Cost::of_nanos(self.cost.nanos().saturating_add(other.cost.nanos())),
        }
    }

    const fn minus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_sub(other.tokens),
            time_ms: self.time_ms.saturating_sub(other.time_ms),
            cost: Cost::of_nanos(self.cost.nanos().saturating_sub(other.cost.nanos())),
        }
    }
}

/// What a task was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// What it holds until it is settled.
    pub held: Amount,
    /// Output tokens it may make; `None` when no budget says so.
    pub tokens_out: Option<u64>,
    /// Time it may take on an engine, ms; `None` when no budget says so.
    pub time_ms: Option<u64>,
}

/// What a task did cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Prompt tokens.
    pub tokens_in: u64,
    /// Generated tokens.
    pub tokens_out: u64,
    /// Time on an engine, ms.
    pub time_ms: u64,
}

/// Which budget does not allow a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// Tokens.
    Tokens,
    /// Time.
    Time,
    /// Cost.
    Cost,
}

impl Budget {
    /// Its label on the wire.
    #[must_use]
    pub const fn label(self) -> PolicyLabel {
        match self {
            Self::Tokens => PolicyLabel::BudgetTokens,
            Self::Time => PolicyLabel::BudgetTime,
            Self::Cost => PolicyLabel::BudgetCost,
        }
    }
}

/// A task would need more than is left. Amounts are tokens, ms or billionths of a unit of cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overdrawn {
    /// Which.
    pub budget: Budget,
    /// What the task needs at least.
    pub needs: u64,
    /// What is left.
    pub left: u64,
    /// What live tasks hold.
    pub held: u64,
    /// The limit.
    pub limit: u64,
}

impl Overdrawn {
    /// Whether it may be enough once live tasks are settled.
    #[must_use]
    pub const fn may_pass_later(&self) -> bool {
        self.needs <= self.left.saturating_add(self.held)
    }
}

/// The books of one session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ledger {
    spent: Amount,
    held: Amount,
}

impl Ledger {
    /// What was charged.
    #[must_use]
    pub const fn spent(&self) -> Amount {
        self.spent
    }

    /// What live tasks hold.
    #[must_use]
    pub const fn held(&self) -> Amount {
        self.held
    }

    /// What a further task may ask for.
    #[must_use]
    pub fn remaining(&self, limits: &Budgets) -> BudgetsRemaining {
        let taken = self.spent.plus(self.held);
        let cost = |limit: Cost| Cost::of_nanos(limit.nanos().saturating_sub(taken.cost.nanos()));
        BudgetsRemaining {
            tokens_budget_remaining: limits.tokens.map(|limit| limit.saturating_sub(taken.tokens)),
            time_budget_remaining_ms: limits.time_ms.map(|limit| limit.saturating_sub(taken.time_ms)),
            cost_budget_remaining: limits.cost.map(cost),
        }
    }

    /// Reserves what a task may cost.
    ///
    /// # Errors
    /// [`Overdrawn`] when a budget has less left than the task needs at least; nothing is reserved then.
    pub fn hold(&mut self, ask: &Ask, limits: &Budgets, prices: Option<&Prices>) -> Result<Grant, Overdrawn> {
        let left = self.remaining(limits);
        let priced = prices.zip(left.cost_budget_remaining);
        let least_out = ask.tokens_out.unwrap_or_else(|| ask.tokens_out_bound.min(1));
        let least_tokens = ask.tokens_in.saturating_add(least_out);
        self.check(Budget::Tokens, least_tokens, limits, left.tokens_budget_remaining)?;
        self.check(Budget::Time, 1, limits, left.time_budget_remaining_ms)?;
        if let Some((prices, left)) = priced {
            let least = prices.of(ask.tokens_in, least_out).nanos();
            self.check(Budget::Cost, least, limits, Some(left.nanos()))?;
        }
        let by_tokens = left.tokens_budget_remaining.map(|left| left - ask.tokens_in);
        let by_cost = priced.map(|(prices, left)| prices.affordable(left, ask.tokens_in));
        let allowed = by_tokens.into_iter().chain(by_cost).min();
        let most_out = ask.tokens_out_bound.min(allowed.unwrap_or(u64::MAX));
        let tokens_out = ask.tokens_out.unwrap_or(most_out);
        let time_ms = ask
            .time_ms_bound
            .min(left.time_budget_remaining_ms.unwrap_or(u64::MAX));
        let held = Amount {
            tokens: ask.tokens_in.saturating_add(tokens_out),
            time_ms,
            cost: prices.map_or(Cost::ZERO, |prices| prices.of(ask.tokens_in, tokens_out)),
        };
        self.held = self.held.plus(held);
        Ok(Grant {
            held,
            tokens_out: allowed.map(|_| tokens_out),
            time_ms: left.time_budget_remaining_ms.map(|_| time_ms),
        })
    }

    /// Gives back what a task held and charges what it did cost.
    pub fn settle(&mut self, grant: &Grant, used: &Used, prices: Option<&Prices>) {
        self.held = self.held.minus(grant.held);
        self.spent = self.spent.plus(Amount {
            tokens: used.tokens_in.saturating_add(used.tokens_out),
            time_ms: used.time_ms,
            cost: prices.map_or(Cost::ZERO, |prices| prices.of(used.tokens_in, used.tokens_out)),
        });
    }

    fn check(
        &self,
        budget: Budget,
        needs: u64,
        limits: &Budgets,
        left: Option<u64>,
    ) -> Result<(), Overdrawn> {
        let Some(left) = left.filter(|&left| needs > left) else {
            return Ok(());
        };
        let (held, limit) = match budget {
            Budget::Tokens => (self.held.tokens, limits.tokens),
            Budget::Time => (self.held.time_ms, limits.time_ms),
            Budget::Cost => (self.held.cost.nanos(), limits.cost.map(Cost::nanos)),
        };
        Err(Overdrawn {
            budget,
            needs,
            left,
            held,
            limit: limit.unwrap_or(left),
        })
    }
}
