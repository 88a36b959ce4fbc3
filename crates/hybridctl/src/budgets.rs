//! `hybridctl budgets`: how this machine's part of each budget stands, asked of model-manager-suite.

use std::process::ExitCode;

use domain::fault::Fault;
use domain::units::Money;
use serde::Serialize;
use wire::subject::{BudgetCall, service};
use wire::v1;

use crate::output::Output;
use crate::table::Table;
use crate::target::System;
use crate::usage::times;

/// A budget, as scripts read it.
#[derive(Debug, Serialize)]
struct View {
    name: String,
    scope: String,
    period: &'static str,
    when_spent: &'static str,
    limit_picodollars: i64,
    allowed_picodollars: i64,
    spent_picodollars: i64,
    reserved_picodollars: i64,
    resets_unix_ms: u64,
    alerted: bool,
}

impl From<v1::BudgetStanding> for View {
    fn from(standing: v1::BudgetStanding) -> Self {
        Self {
            period: match standing.period() {
                v1::BudgetPeriod::Day => "day",
                v1::BudgetPeriod::Month => "month",
                v1::BudgetPeriod::Unspecified => "unknown",
            },
            when_spent: match standing.when_spent() {
                v1::WhenSpent::Reject => "reject",
                v1::WhenSpent::Local => "local",
                v1::WhenSpent::Queue => "queue",
                v1::WhenSpent::Unspecified => "unknown",
            },
            name: standing.name,
            scope: standing.scope,
            limit_picodollars: standing.limit_picodollars,
            allowed_picodollars: standing.allowed_picodollars,
            spent_picodollars: standing.spent_picodollars,
            reserved_picodollars: standing.reserved_picodollars,
            resets_unix_ms: standing.resets_unix_ms,
            alerted: standing.alerted,
        }
    }
}

pub(crate) async fn run(json: bool, system: &System, output: &Output) -> anyhow::Result<ExitCode> {
    let connection = system.connect().await?;
    let call = BudgetCall(connection.bus.machine().clone());
    let reply = connection.call(&call, &v1::BudgetRequest::default(), service::MODEL_MANAGER_SUITE).await?;
    connection.close().await;
    if let Some(error) = reply.error {
        return Err(Fault::from(error).into());
    }
    let budgets: Vec<View> = reply.budgets.into_iter().map(View::from).collect();
    if json {
        output.json(&budgets)?;
        return Ok(ExitCode::SUCCESS);
    }
    if budgets.is_empty() {
        output
            .line("no budget is set: nothing bounds what is spent (see [[budget]] in config/policies.toml)");
        return Ok(ExitCode::SUCCESS);
    }
    for line in table(budgets).lines() {
        output.line(&line);
    }
    Ok(ExitCode::SUCCESS)
}

fn table(budgets: Vec<View>) -> Table<8> {
    let mut table =
        Table::new(["budget", "for", "spent>", "set aside>", "of>", "used>", "starts anew", "when spent"]);
    for budget in budgets {
        let amount = |picodollars| Money::picodollars(picodollars).to_string();
        let used = match budget.allowed_picodollars {
            0 => String::new(),
            allowed => format!("{} %", i128::from(budget.spent_picodollars) * 100 / i128::from(allowed)),
        };
        table.row([
            budget.name,
            budget.scope,
            amount(budget.spent_picodollars),
            amount(budget.reserved_picodollars),
            amount(budget.allowed_picodollars),
            used,
            times::text(i64::try_from(budget.resets_unix_ms).unwrap_or(i64::MAX)),
            budget.when_spent.to_owned(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_without_money_has_no_share() {
        let standing = |allowed, spent| v1::BudgetStanding {
            name: "daily".to_owned(),
            scope: "all".to_owned(),
            when_spent: v1::WhenSpent::Local.into(),
            allowed_picodollars: allowed,
            spent_picodollars: spent,
            ..Default::default()
        };
        let lines =
            table(vec![standing(0, 0).into(), standing(10_000_000_000_000, 8_050_000_000_000).into()])
                .lines();
        assert_eq!(lines[1], "daily   all  $0.00      $0.00   $0.00     -  1970-01-01 00:00  local");
        assert_eq!(lines[2], "daily   all  $8.05      $0.00  $10.00  80 %  1970-01-01 00:00  local");
    }
}
