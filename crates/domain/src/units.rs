//! Quantities as types, so that tokens are not added to bytes.

use std::{fmt, iter::Sum, ops::Add, str::FromStr};

/// A count of tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tokens(u64);

impl Tokens {
    /// None.
    pub const ZERO: Self = Self(0);

    /// So many tokens.
    #[must_use]
    pub const fn new(count: u64) -> Self {
        Self(count)
    }

    /// The count.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Less `other`, at least zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Add for Tokens {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for Tokens {
    fn sum<I: Iterator<Item = Self>>(tokens: I) -> Self {
        tokens.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A count of bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(u64);

impl Bytes {
    /// None.
    pub const ZERO: Self = Self(0);

    /// So many bytes.
    #[must_use]
    pub const fn new(count: u64) -> Self {
        Self(count)
    }

    /// So many binary megabytes (1,048,576 bytes).
    #[must_use]
    pub const fn mebibytes(count: u64) -> Self {
        Self(count.saturating_mul(1 << 20))
    }

    /// The count.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The sum, unless it does not fit.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// Less `other`, at least zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Add for Bytes {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(bytes: I) -> Self {
        bytes.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Bytes {
    /// In the largest binary unit that keeps the number above one: `23.5 GiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 4] =
            [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match UNITS.iter().find(|(_, size)| self.0 >= *size) {
            #[expect(clippy::cast_precision_loss, reason = "for people, one digit after the point")]
            Some((unit, size)) => write!(f, "{:.1} {unit}", self.0 as f64 / *size as f64),
            None => write!(f, "{} B", self.0),
        }
    }
}

/// An amount of US dollars, in whole pico-dollars (1e-12): a price of $0.0375 per million tokens is exact, and
/// 9.2 million dollars still fit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i64);

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// Pico-dollars in a dollar.
    pub const PICODOLLARS_PER_DOLLAR: i64 = 1_000_000_000_000;

    /// So many pico-dollars.
    #[must_use]
    pub const fn picodollars(count: i64) -> Self {
        Self(count)
    }

    /// The count of pico-dollars.
    #[must_use]
    pub const fn as_picodollars(self) -> i64 {
        self.0
    }

    /// `count` times this amount; the largest amount where that does not fit.
    #[must_use]
    pub fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(i64::try_from(count).unwrap_or(i64::MAX)))
    }

    /// `part` of `whole` of this amount, rounded up; the largest amount where that does not fit, nothing of nothing.
    #[must_use]
    pub fn share(self, part: u64, whole: u64) -> Self {
        let (part, whole) = (i128::from(part), i128::from(whole));
        let product = i128::from(self.0).saturating_mul(part);
        let up = i128::from(whole != 0 && product % whole.max(1) > 0);
        let share = product.checked_div(whole).unwrap_or(0) + up;
        Self(i64::try_from(share).unwrap_or(i64::MAX))
    }
}

impl Add for Money {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

/// A text that is no amount of money.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no amount, expected dollars as in 12.50, with at most twelve decimals")]
pub struct InvalidMoney(String);

impl FromStr for Money {
    type Err = InvalidMoney;

    /// Dollars, with or without the sign: `12.50`, `$0.0375`. Never below zero.
    fn from_str(text: &str) -> Result<Self, InvalidMoney> {
        const DECIMALS: usize = 12;
        let invalid = || InvalidMoney(text.chars().take(40).collect());
        let amount = text.trim().trim_start_matches('$');
        let (whole, decimals) = amount.split_once('.').unwrap_or((amount, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(decimals) || decimals.len() > DECIMALS {
            return Err(invalid());
        }
        let whole: i64 = whole.parse().map_err(|_| invalid())?;
        let fraction: i64 = format!("{decimals:0<DECIMALS$}").parse().map_err(|_| invalid())?;
        let amount =
            whole.checked_mul(Self::PICODOLLARS_PER_DOLLAR).and_then(|amount| amount.checked_add(fraction));
        amount.map(Self).ok_or_else(invalid)
    }
}

impl fmt::Display for Money {
    /// Dollars with at least two and at most twelve digits after the point: `$0.0003`, `$12.50`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let amount = self.0.unsigned_abs();
        let per_dollar = Self::PICODOLLARS_PER_DOLLAR.unsigned_abs();
        let digits = format!("{:012}", amount % per_dollar);
        let kept = digits.trim_end_matches('0');
        let kept = if kept.len() < 2 { digits.get(..2).unwrap_or("00") } else { kept };
        write!(f, "{sign}${}.{kept}", amount / per_dollar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_prints_dollars_without_rounding() {
        for (picodollars, text) in [
            (0, "$0.00"),
            (37_500, "$0.0000000375"),
            (12_500_000_000_000, "$12.50"),
            (-1, "-$0.000000000001"),
            (i64::MAX, "$9223372.036854775807"),
        ] {
            assert_eq!(Money::picodollars(picodollars).to_string(), text);
        }
    }

    #[test]
    fn money_is_read_as_it_is_printed_and_nothing_else_is() {
        for text in ["$0.00", "$0.0000000375", "$12.50", "$9223372.036854775807"] {
            assert_eq!(text.parse::<Money>().unwrap().to_string(), text);
        }
        assert_eq!("7".parse(), Ok(Money::picodollars(7 * Money::PICODOLLARS_PER_DOLLAR)));
        for text in ["", "-1", "1.", ".5", "1e3", "1,50", "9223372.036854775808", "0.0000000000001"] {
            assert!(text.parse::<Money>().is_err(), "{text}");
        }
    }

    #[test]
    fn amounts_saturate_instead_of_wrapping() {
        assert_eq!(Money::picodollars(i64::MAX) + Money::picodollars(1), Money::picodollars(i64::MAX));
        assert_eq!(Money::picodollars(2).times(u64::MAX), Money::picodollars(i64::MAX));
        assert_eq!(Tokens::new(u64::MAX) + Tokens::new(1), Tokens::new(u64::MAX));
    }
}
