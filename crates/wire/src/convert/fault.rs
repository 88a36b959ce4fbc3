//! Errors.

use std::time::Duration;

use domain::{
    fault::{Code, Fault, Origin, Spent},
    units::Money,
};

use crate::v1;

impl From<Code> for v1::ErrorCode {
    fn from(code: Code) -> Self {
        match code {
            Code::InvalidArgument => Self::InvalidArgument,
            Code::Unauthenticated => Self::Unauthenticated,
            Code::PermissionDenied => Self::PermissionDenied,
            Code::NotFound => Self::NotFound,
            Code::PayloadTooLarge => Self::PayloadTooLarge,
            Code::ContextLengthExceeded => Self::ContextLengthExceeded,
            Code::RateLimited => Self::RateLimited,
            Code::BudgetExceeded => Self::BudgetExceeded,
            Code::Unavailable => Self::Unavailable,
            Code::Busy => Self::Busy,
            Code::Upstream => Self::Upstream,
            Code::UpstreamAuth => Self::UpstreamAuth,
            Code::Timeout => Self::Timeout,
            Code::Cancelled => Self::Cancelled,
            Code::Unsupported => Self::Unsupported,
            Code::Internal => Self::Internal,
        }
    }
}

impl From<v1::ErrorCode> for Code {
    /// A code this version does not know is a defect of the pair.
    fn from(code: v1::ErrorCode) -> Self {
        match code {
            v1::ErrorCode::Unspecified | v1::ErrorCode::Internal => Self::Internal,
            v1::ErrorCode::InvalidArgument => Self::InvalidArgument,
            v1::ErrorCode::Unauthenticated => Self::Unauthenticated,
            v1::ErrorCode::PermissionDenied => Self::PermissionDenied,
            v1::ErrorCode::NotFound => Self::NotFound,
            v1::ErrorCode::PayloadTooLarge => Self::PayloadTooLarge,
            v1::ErrorCode::ContextLengthExceeded => Self::ContextLengthExceeded,
            v1::ErrorCode::RateLimited => Self::RateLimited,
            v1::ErrorCode::BudgetExceeded => Self::BudgetExceeded,
            v1::ErrorCode::Unavailable => Self::Unavailable,
            v1::ErrorCode::Busy => Self::Busy,
            v1::ErrorCode::Upstream => Self::Upstream,
            v1::ErrorCode::UpstreamAuth => Self::UpstreamAuth,
            v1::ErrorCode::Timeout => Self::Timeout,
            v1::ErrorCode::Cancelled => Self::Cancelled,
            v1::ErrorCode::Unsupported => Self::Unsupported,
        }
    }
}

impl From<Origin> for v1::ErrorOrigin {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Caller => Self::Caller,
            Origin::Policy => Self::Policy,
            Origin::Provider => Self::Provider,
            Origin::Local => Self::Local,
            Origin::Internal => Self::Internal,
        }
    }
}

impl From<v1::ErrorOrigin> for Origin {
    fn from(origin: v1::ErrorOrigin) -> Self {
        match origin {
            v1::ErrorOrigin::Caller => Self::Caller,
            v1::ErrorOrigin::Policy => Self::Policy,
            v1::ErrorOrigin::Provider => Self::Provider,
            v1::ErrorOrigin::Local => Self::Local,
            v1::ErrorOrigin::Unspecified | v1::ErrorOrigin::Internal => Self::Internal,
        }
    }
}

impl From<Fault> for v1::Error {
    fn from(fault: Fault) -> Self {
        Self {
            code: v1::ErrorCode::from(fault.code).into(),
            origin: v1::ErrorOrigin::from(fault.origin).into(),
            retryable: fault.retryable,
            message: fault.message,
            field: fault.field,
            // never 0, which means that nobody knows: half a millisecond would become the longest default
            retry_after_ms: fault.retry_after.map_or(0, |wait| {
                u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).max(1)
            }),
            provider_code: fault.provider_code,
            usage: fault.spent.as_ref().map(|spent| spent.usage.into()),
            cost_picodollars: fault.spent.map_or(0, |spent| spent.cost.as_picodollars()),
        }
    }
}

impl From<v1::Error> for Fault {
    fn from(error: v1::Error) -> Self {
        Self {
            code: error.code().into(),
            origin: error.origin().into(),
            retryable: error.retryable,
            retry_after: (error.retry_after_ms > 0).then(|| Duration::from_millis(error.retry_after_ms)),
            message: error.message,
            field: error.field,
            provider_code: error.provider_code,
            spent: error.usage.map(|usage| {
                let cost = Money::picodollars(error.cost_picodollars.max(0));
                Box::new(Spent { usage: usage.into(), cost })
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_however_short_is_not_taken_for_an_unknown_one() {
        for (wait, told) in [(0, 1), (300, 1), (1_000, 1), (1_001, 2), (42_000_000, 42_000)] {
            let wait = Duration::from_micros(wait);
            let error = v1::Error::from(Fault::internal("x").after(wait));
            assert_eq!(error.retry_after_ms, told, "{wait:?}");
            assert!(Fault::from(error).retry_after.is_some_and(|back| back >= wait));
        }
        assert_eq!(Fault::from(v1::Error::from(Fault::internal("x"))).retry_after, None);
    }

    #[test]
    fn what_a_failure_cost_goes_with_it() {
        let usage = v1::TokenUsage { input: 7, cache_write: 5, cache_write_hour: 2, ..Default::default() };
        let error = v1::Error { usage: Some(usage), cost_picodollars: 9, ..Fault::internal("x").into() };
        let fault = Fault::from(error.clone());
        assert_eq!(fault.spent.as_ref().map(|spent| spent.cost.as_picodollars()), Some(9));
        assert_eq!(v1::Error::from(fault), error);
        assert_eq!(v1::Error::from(Fault::internal("x")).usage, None);
    }
}
