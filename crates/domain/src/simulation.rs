//! What a month of work would cost, under one way to run it and another.
//!
//! A workload is so many units of work a day, all alike; a variant says which share of them is paid for by the token, and what
//! is paid whether there is work or not. Amounts are whole pico-dollars, shares millionths: the same inputs give the same bill.

use crate::{
    pricing::{Price, TokenUsage},
    units::{Money, Tokens},
};

/// Days that a month of hardware is paid for.
const DAYS_PER_MONTH: u32 = 30;

/// A part of a whole, in millionths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// The whole.
    pub const ALL: Self = Self(1_000_000);

    /// So many millionths, at most the whole.
    #[must_use]
    pub fn millionths(count: u32) -> Self {
        Self(count.min(Self::ALL.0))
    }

    /// The count of millionths.
    #[must_use]
    pub const fn as_millionths(self) -> u32 {
        self.0
    }

    /// This share of that share.
    #[must_use]
    pub fn of(self, other: Self) -> Self {
        Self::millionths(u32::try_from(self.part(u64::from(other.0))).unwrap_or(u32::MAX))
    }

    /// What is missing to the whole.
    #[must_use]
    pub const fn rest(self) -> Self {
        Self(Self::ALL.0 - self.0)
    }

    /// Both together, at most the whole.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::millionths(self.0.saturating_add(other.0))
    }

    /// The part of a count, rounded to the nearest.
    #[must_use]
    pub fn part(self, count: u64) -> u64 {
        let part = (u128::from(count) * u128::from(self.0) + 500_000) / 1_000_000;
        u64::try_from(part).unwrap_or(u64::MAX)
    }

    /// The part of an amount, rounded to the nearest pico-dollar.
    #[must_use]
    pub fn part_of(self, amount: Money) -> Money {
        let part = (i128::from(amount.as_picodollars()) * i128::from(self.0) + 500_000) / 1_000_000;
        Money::picodollars(i64::try_from(part).unwrap_or(i64::MAX))
    }
}

/// Units of work, all alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// How many come each day.
    pub units_per_day: u64,
    /// Input of one.
    pub input: Tokens,
    /// Output of one.
    pub output: Tokens,
}

/// Work that is paid for by the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Api {
    /// The units that go there.
    pub share: Share,
    /// What a token costs.
    pub price: Price,
    /// The part of their input that the provider's prompt cache has.
    pub cached: Share,
    /// The units that can wait for the provider's batch interface.
    pub batched: Share,
    /// What the batch interface takes off the price.
    pub batch_discount: Share,
}

/// Work that one's own hardware has no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow {
    /// Units a day that always find room.
    pub above_per_day: u64,
    /// The share of further ones that does not.
    pub share: Share,
}

/// A computer that is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Electricity {
    /// Drawn on average while it is on.
    pub watts: u64,
    /// On each day.
    pub hours_per_day: u64,
    /// For a kilowatt-hour.
    pub per_kwh: Money,
}

/// A computer of somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rental {
    /// For an hour.
    pub per_hour: Money,
    /// Rented each day.
    pub hours_per_day: u64,
}

/// A computer that was bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hardware {
    /// For all of it.
    pub price: Money,
    /// Over how many months of 30 days that is spread; at least 1.
    pub months: u32,
}

/// One way to run a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// What is paid for by the token; the rest runs on one's own or rented hardware.
    pub api: Api,
    /// What goes to the API besides, when there is much to do.
    pub overflow: Option<Overflow>,
    /// Of one's own hardware.
    pub electricity: Option<Electricity>,
    /// Of rented hardware.
    pub rental: Option<Rental>,
    /// Of one's own hardware, until it is paid off.
    pub hardware: Option<Hardware>,
}

/// What it comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bill {
    /// Paid by the token.
    pub api: Money,
    /// Paid by the kilowatt-hour.
    pub electricity: Money,
    /// Paid by the hour.
    pub rental: Money,
    /// Spread over its months.
    pub hardware: Money,
}

impl Bill {
    /// Everything.
    #[must_use]
    pub fn total(&self) -> Money {
        self.without_hardware() + self.hardware
    }

    /// Everything once the hardware is paid off.
    #[must_use]
    pub fn without_hardware(&self) -> Money {
        self.api + self.electricity + self.rental
    }

    /// Each post rounded to whole `unit`s, so that what is shown adds up.
    #[must_use]
    pub fn rounded(&self, unit: Money) -> Self {
        let unit = unit.as_picodollars().max(1);
        let round = |amount: Money| {
            let units = amount.as_picodollars().saturating_add(unit / 2) / unit;
            Money::picodollars(units.saturating_mul(unit))
        };
        Self {
            api: round(self.api),
            electricity: round(self.electricity),
            rental: round(self.rental),
            hardware: round(self.hardware),
        }
    }
}

/// The bill of so many days.
#[must_use]
pub fn bill(workload: &Workload, variant: &Variant, days: u32) -> Bill {
    let days_u64 = u64::from(days);
    let local = variant.api.share.rest();
    let overflowing = variant.overflow.map_or(0, |overflow| {
        local
            .of(overflow.share)
            .part(workload.units_per_day.saturating_sub(overflow.above_per_day) * days_u64)
    });
    let units =
        variant.api.share.part(workload.units_per_day.saturating_mul(days_u64)).saturating_add(overflowing);
    let hardware = variant.hardware.map_or(Money::ZERO, |hardware| {
        let spread = i128::from(DAYS_PER_MONTH) * i128::from(hardware.months.max(1));
        let part = i128::from(hardware.price.as_picodollars()) * i128::from(days) / spread;
        Money::picodollars(i64::try_from(part).unwrap_or(i64::MAX))
    });
    Bill {
        api: tokens(workload, &variant.api, units),
        electricity: variant.electricity.map_or(Money::ZERO, |electricity| {
            let watt_hours =
                electricity.watts.saturating_mul(electricity.hours_per_day).saturating_mul(days_u64);
            Money::picodollars(electricity.per_kwh.times(watt_hours).as_picodollars() / 1_000)
        }),
        rental: variant.rental.map_or(Money::ZERO, |rental| {
            rental.per_hour.times(rental.hours_per_day.saturating_mul(days_u64))
        }),
        hardware,
    }
}

/// So many units at the API.
fn tokens(workload: &Workload, api: &Api, units: u64) -> Money {
    let input = workload.input.get().saturating_mul(units);
    let usage = TokenUsage {
        input: Tokens::new(input),
        cached_input: Tokens::new(api.cached.part(input)),
        output: Tokens::new(workload.output.get().saturating_mul(units)),
        ..TokenUsage::default()
    };
    api.batched.of(api.batch_discount).rest().part_of(api.price.cost(&usage))
}

/// Volumes at which the same variant is the cheapest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First number of units a day.
    pub from: u64,
    /// Last number of units a day.
    pub to: u64,
    /// Its place in the list.
    pub variant: usize,
}

/// Which variant is the cheapest at 1 to `up_to` units a day; of two that cost the same the first one.
#[must_use]
pub fn cheapest(workload: &Workload, variants: &[Variant], days: u32, up_to: u64) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for units_per_day in 1..=up_to {
        let workload = Workload { units_per_day, ..*workload };
        let costs = variants.iter().map(|variant| bill(&workload, variant, days).total());
        let Some((variant, _)) = costs.enumerate().min_by_key(|(place, cost)| (*cost, *place)) else { break };
        match spans.last_mut() {
            Some(span) if span.variant == variant => span.to = units_per_day,
            _ => spans.push(Span { from: units_per_day, to: units_per_day, variant }),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dollars(text: &str) -> Money {
        text.parse().unwrap()
    }

    /// $3 and $15 per million tokens, $0.30 from the cache.
    const SONNET: Price = Price {
        input: Money::picodollars(3_000_000),
        output: Money::picodollars(15_000_000),
        cached_input: Some(Money::picodollars(300_000)),
        ..Price::FREE
    };
    const UNITS: Workload =
        Workload { units_per_day: 100, input: Tokens::new(5_000), output: Tokens::new(2_000) };

    fn api(share: u32) -> Api {
        Api {
            share: Share::millionths(share),
            price: SONNET,
            cached: Share::NONE,
            batched: Share::NONE,
            batch_discount: Share::NONE,
        }
    }

    fn only(api: Api) -> Variant {
        Variant { api, overflow: None, electricity: None, rental: None, hardware: None }
    }

    #[test]
    fn a_unit_costs_its_tokens() {
        // 100 × 30 × (5,000 × $3/M + 2,000 × $15/M)
        assert_eq!(bill(&UNITS, &only(api(1_000_000)), 30).total(), dollars("135"));
        assert_eq!(bill(&UNITS, &only(api(100_000)), 30).total(), dollars("13.5"));
        assert_eq!(bill(&UNITS, &only(api(0)), 30).total(), Money::ZERO);
    }

    #[test]
    fn cache_and_batch_take_off_what_they_say() {
        // input: 3 M tokens, 80 % of them at a tenth; output 3 M; three quarters of it all at half the price
        let work = Workload { units_per_day: 1, input: Tokens::new(100_000), output: Tokens::new(100_000) };
        let saving = Api {
            cached: Share::millionths(800_000),
            batched: Share::millionths(750_000),
            batch_discount: Share::millionths(500_000),
            ..api(1_000_000)
        };
        // (0.6 × $3 + 2.4 × $0.30 + 3 × $15) × 0.625
        assert_eq!(bill(&work, &only(saving), 30).api, dollars("29.7"));
    }

    #[test]
    fn what_is_paid_without_work() {
        let variant = Variant {
            electricity: Some(Electricity { watts: 200, hours_per_day: 24, per_kwh: dollars("0.30") }),
            rental: Some(Rental { per_hour: dollars("0.35"), hours_per_day: 5 }),
            hardware: Some(Hardware { price: dollars("1810"), months: 24 }),
            ..only(api(0))
        };
        let bill = bill(&UNITS, &variant, 30);
        assert_eq!(bill.electricity, dollars("43.2"));
        assert_eq!(bill.rental, dollars("52.5"));
        assert_eq!(bill.hardware, dollars("75.416666666666"));
        let whole = bill.rounded(dollars("1"));
        assert_eq!(
            (whole.electricity, whole.rental, whole.hardware),
            (dollars("43"), dollars("53"), dollars("75"))
        );
        assert_eq!(whole.total(), dollars("171"));
        assert_eq!(whole.without_hardware(), dollars("96"));
    }

    #[test]
    fn fixed_costs_pay_off_with_volume() {
        let rented =
            Variant { rental: Some(Rental { per_hour: dollars("1"), hours_per_day: 1 }), ..only(api(0)) };
        let spans = cheapest(&UNITS, &[only(api(1_000_000)), rented], 30, 1_000);
        // $0.045 a unit against $1 a day
        let expected = [Span { from: 1, to: 22, variant: 0 }, Span { from: 23, to: 1_000, variant: 1 }];
        assert_eq!(spans, expected);
    }

    #[test]
    fn more_than_fits_goes_to_the_api() {
        let overflow = Some(Overflow { above_per_day: 60, share: Share::millionths(500_000) });
        let variant = Variant { overflow, ..only(api(100_000)) };
        // a tenth of 3,000, and half of nine tenths of 40 × 30
        assert_eq!(bill(&UNITS, &variant, 30).api, dollars("37.8"));
        assert_eq!(bill(&Workload { units_per_day: 60, ..UNITS }, &variant, 30).api, dollars("8.1"));
    }

    proptest::proptest! {
        #[test]
        fn more_work_never_costs_less(
            share in 0u32..=1_000_000, overflow in 0u32..=1_000_000, above in 0u64..500, units in 0u64..1_000, more in 0u64..1_000,
        ) {
            let overflow = Some(Overflow { above_per_day: above, share: Share::millionths(overflow) });
            let variant = Variant { overflow, ..only(api(share)) };
            let at = |units_per_day| bill(&Workload { units_per_day, ..UNITS }, &variant, 30).total();
            proptest::prop_assert!(at(units) <= at(units + more));
        }
    }
}
