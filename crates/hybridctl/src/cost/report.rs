//! The figures of a workload, for people and for programs.

use domain::simulation::{Bill, Span, Variant, Workload, bill, cheapest};
use domain::units::Money;
use serde_json::{Value, json};

use super::chart;
use super::file::Plan;
use crate::output::Style;
use crate::table::{Table, printable};

/// Break-even points are looked for up to so many times the largest volume that is shown.
const LOOK_AHEAD: u64 = 2;

pub(super) fn lines(plan: &Plan, days: u32, style: Style) -> Vec<String> {
    let Workload { units_per_day, input, output } = plan.workload;
    let mut lines = vec![
        style.bold(&printable(&plan.title)),
        format!(
            "{units_per_day} {unit}s a day for {days} days, each {input} tokens in and {output} out",
            unit = printable(&plan.unit)
        ),
        String::new(),
    ];
    lines.extend(costs(plan, days));
    lines.push(String::new());
    let bills = bills(plan, &plan.workload, days);
    let names = plan.variants.iter().map(|(name, _)| name.as_str());
    let rows: Vec<_> = names
        .zip(&bills)
        .map(|(name, bill)| {
            let total = bill.total();
            (name, u64::try_from(total.as_picodollars()).unwrap_or(0), short(total))
        })
        .collect();
    lines.extend(chart::bars(&rows, style));
    if !plan.compare_at.is_empty() {
        lines.push(String::new());
        lines.extend(volumes(plan, days));
        lines.push(String::new());
        lines.extend(break_even(plan, days));
    }
    lines
}

fn costs(plan: &Plan, days: u32) -> Vec<String> {
    let mut table = Table::new([
        "variant",
        "API>",
        "electricity>",
        "rental>",
        "hardware>",
        "total>",
        "saved>",
        "once paid off>",
        "saved>",
    ]);
    let bills = bills(plan, &plan.workload, days);
    let baseline = bills.first().map(Bill::total).unwrap_or_default();
    for ((name, variant), bill) in plan.variants.iter().zip(&bills) {
        let later = variant.hardware.map(|_| bill.without_hardware());
        let saved =
            |amount| saved(baseline, amount).map(|percent| format!("{percent:.1} %")).unwrap_or_default();
        table.row([
            name.clone(),
            post(bill.api),
            post(bill.electricity),
            post(bill.rental),
            post(bill.hardware),
            short(bill.total()),
            saved(bill.total()),
            later.map(short).unwrap_or_default(),
            later.map(saved).unwrap_or_default(),
        ]);
    }
    table.lines()
}

/// What each variant costs at each volume.
fn volumes(plan: &Plan, days: u32) -> Vec<String> {
    let head = format!("{}s a day", printable(&plan.unit));
    let widths: Vec<usize> = plan.variants.iter().map(|(name, _)| name.chars().count().max(9)).collect();
    let names = plan.variants.iter().map(|(name, _)| name.clone());
    let line = |first: String, cells: Vec<String>| {
        let cells: String =
            cells.iter().zip(&widths).map(|(cell, width)| format!("  {cell:>width$}")).collect();
        printable(&format!("{first:>width$}{cells}", width = head.chars().count()))
    };
    let mut lines = vec![line(head.clone(), names.collect())];
    for units_per_day in &plan.compare_at {
        let workload = Workload { units_per_day: *units_per_day, ..plan.workload };
        let totals = bills(plan, &workload, days).iter().map(|bill| short(bill.total())).collect();
        lines.push(line(units_per_day.to_string(), totals));
    }
    lines
}

fn break_even(plan: &Plan, days: u32) -> Vec<String> {
    let name =
        |span: &Span| plan.variants.get(span.variant).map(|(name, _)| printable(name)).unwrap_or_default();
    let spans = spans(plan, days);
    let last = spans.len().saturating_sub(1);
    let unit = printable(&plan.unit);
    spans
        .iter()
        .enumerate()
        .map(|(index, span)| {
            let range = if index == last {
                format!("from {} on", span.from)
            } else {
                format!("{} to {}", span.from, span.to)
            };
            format!("cheapest at {range} {unit}s a day: {}", name(span))
        })
        .collect()
}

fn spans(plan: &Plan, days: u32) -> Vec<Span> {
    let variants: Vec<Variant> = plan.variants.iter().map(|(_, variant)| *variant).collect();
    let up_to =
        plan.compare_at.last().copied().unwrap_or(plan.workload.units_per_day).saturating_mul(LOOK_AHEAD);
    cheapest(&plan.workload, &variants, days, up_to)
}

fn bills(plan: &Plan, workload: &Workload, days: u32) -> Vec<Bill> {
    plan.variants.iter().map(|(_, variant)| bill(workload, variant, days).rounded(plan.round_to)).collect()
}

/// Percent of the first variant's cost; `None` when that is nothing or it is the same.
fn saved(baseline: Money, amount: Money) -> Option<f64> {
    if baseline == Money::ZERO || baseline == amount {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "for people, one digit after the point")]
    Some((1.0 - amount.as_picodollars() as f64 / baseline.as_picodollars() as f64) * 100.0)
}

/// Nothing where nothing is paid.
fn post(amount: Money) -> String {
    if amount == Money::ZERO { String::new() } else { short(amount) }
}

/// Dollars with two digits after the point.
fn short(amount: Money) -> String {
    let cents = amount.as_picodollars().saturating_add(5_000_000_000) / 10_000_000_000;
    format!("${}.{:02}", cents / 100, cents % 100)
}

/// All figures, amounts in pico-dollars.
pub(super) fn json(plan: &Plan, days: u32) -> Value {
    let named = |bills: Vec<Bill>| -> Value {
        let bills = plan.variants.iter().zip(bills).map(|((name, _), bill)| {
            json!({
                "variant": name,
                "api_picodollars": bill.api.as_picodollars(),
                "electricity_picodollars": bill.electricity.as_picodollars(),
                "rental_picodollars": bill.rental.as_picodollars(),
                "hardware_picodollars": bill.hardware.as_picodollars(),
                "total_picodollars": bill.total().as_picodollars(),
                "total_once_paid_off_picodollars": bill.without_hardware().as_picodollars(),
            })
        });
        bills.collect()
    };
    let exact = |workload: &Workload| -> Vec<Bill> {
        plan.variants.iter().map(|(_, variant)| bill(workload, variant, days)).collect()
    };
    let volumes: Vec<Value> = plan
        .compare_at
        .iter()
        .map(|units_per_day| {
            let workload = Workload { units_per_day: *units_per_day, ..plan.workload };
            json!({"units_per_day": units_per_day, "costs": named(exact(&workload))})
        })
        .collect();
    let cheapest: Vec<Value> = spans(plan, days)
        .iter()
        .map(|span| json!({"from": span.from, "to": span.to, "variant": plan.variants.get(span.variant).map(|(name, _)| name)}))
        .collect();
    json!({
        "title": plan.title,
        "unit": plan.unit,
        "units_per_day": plan.workload.units_per_day,
        "days": days,
        "costs": named(exact(&plan.workload)),
        "volumes": volumes,
        "cheapest": cheapest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(text: &str) -> Vec<(String, String, String)> {
        let plan = Plan::parse(text).unwrap();
        let bills = bills(&plan, &plan.workload, 30);
        let names = plan.variants.iter().map(|(name, _)| name.clone());
        names
            .zip(bills)
            .map(|(name, bill)| (name, short(bill.total()), short(bill.without_hardware())))
            .collect()
    }

    /// The owner's quick start, "Monthly Costs".
    #[test]
    fn the_daemon_costs_what_the_owners_document_says() {
        let text = include_str!("../../../../config/workloads/daemon.toml");
        let totals = totals(text);
        let [pure, ollama, cloud, _] = totals.as_slice() else { panic!("{totals:?}") };
        assert_eq!((pure.1.as_str(), ollama.1.as_str(), cloud.1.as_str()), ("$135.00", "$16.50", "$66.00"));
        let plan = Plan::parse(text).unwrap();
        let shown = costs(&plan, 30).join("\n");
        assert!(shown.contains("87.8 %") && shown.contains("51.1 %"), "{shown}");
        // "200+ iterations/day: cloud GPU pays for itself; 500+: deploy vLLM cluster"
        let spans = spans(&plan, 30);
        let [idle, local, rented, cluster] = spans.as_slice() else { panic!("{spans:?}") };
        assert_eq!((idle.variant, local.variant, rented.variant, cluster.variant), (0, 1, 2, 3));
        assert_eq!((local.from, rented.from), (3, 200));
        assert!((500..600).contains(&cluster.from), "{cluster:?}");
    }

    /// The owner's hybrid compute layer, strategies A to D and "Savings Summary".
    #[test]
    fn the_factory_costs_what_the_owners_document_says() {
        let text = include_str!("../../../../config/workloads/factory.toml");
        let shown: Vec<_> = totals(text).into_iter().map(|(_, first, later)| (first, later)).collect();
        let expected =
            [("$540.00", "$540.00"), ("$84.00", "$84.00"), ("$172.00", "$97.00"), ("$148.00", "$73.00")];
        assert_eq!(shown, expected.map(|(first, later)| (first.to_owned(), later.to_owned())));
    }
}
